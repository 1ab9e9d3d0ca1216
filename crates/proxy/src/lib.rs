//! Sans-IO stateful SIP proxy (RFC 3261 section 16).
