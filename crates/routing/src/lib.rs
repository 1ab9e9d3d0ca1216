//! Registry snapshot to an immutable RouteTable, and the decision over it.
