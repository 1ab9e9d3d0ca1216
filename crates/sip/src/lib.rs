//! SIP wire grammar: lazy parser and splicing writer (RFC 3261).
