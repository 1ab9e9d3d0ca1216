//! Harness of the whole-process tests: the real binary, real peers.
