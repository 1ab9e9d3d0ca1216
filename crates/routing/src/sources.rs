//! Which addresses may place calls.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;

/// A set of networks. A look-up costs one hash probe for each prefix length in use.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    networks: HashSet<IpNet>,
    lengths_v4: Vec<u8>,
    lengths_v6: Vec<u8>,
}

impl Sources {
    /// Adds a network.
    pub fn insert(&mut self, network: IpNet) {
        let network = network.trunc();
        let lengths = if network.addr().is_ipv4() { &mut self.lengths_v4 } else { &mut self.lengths_v6 };
        if !lengths.contains(&network.prefix_len()) {
            lengths.push(network.prefix_len());
        }
        self.networks.insert(network);
    }

    /// Whether any network of the set has the address. An IPv4 address mapped into IPv6 counts as itself.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let lengths = if address.is_ipv4() { &self.lengths_v4 } else { &self.lengths_v6 };
        lengths
            .iter()
            .any(|length| IpNet::new(address, *length).is_ok_and(|network| self.networks.contains(&network.trunc())))
    }
}
