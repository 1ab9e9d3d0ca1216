//! Trunks, leases and health rules as a pure state machine.
