//! UDP sockets and name resolution; drives the proxy shards.
