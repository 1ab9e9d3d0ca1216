//! Who may place calls: by address, or by the names of a verified certificate.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

/// What a source of requests may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// It may place calls.
    pub allowed: bool,
    /// What it asserts about identities is believed (RFC 3325 §2.2).
    pub trusted: bool,
}

/// A set of networks and certificate names. A look-up costs one hash probe for each prefix length in use.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    networks: HashMap<IpNet, bool>,
    lengths_v4: Vec<u8>,
    lengths_v6: Vec<u8>,
    names: HashMap<Box<str>, bool>,
    /// Networks that are trusted, whether they may place calls or not.
    trusted: HashSet<IpNet>,
}

impl Sources {
    /// Adds a network. Where two that hold an address differ, trust in one is trust.
    pub fn insert(&mut self, network: IpNet, trusted: bool) {
        let network = network.trunc();
        self.note_length(network);
        *self.networks.entry(network).or_default() |= trusted;
    }

    /// Adds a name of certificates, in lower case.
    pub fn insert_name(&mut self, name: &str, trusted: bool) {
        *self.names.entry(name.into()).or_default() |= trusted;
    }

    /// Trusts a network without allowing it.
    pub fn trust(&mut self, network: IpNet) {
        let network = network.trunc();
        self.note_length(network);
        self.trusted.insert(network);
    }

    fn note_length(&mut self, network: IpNet) {
        let lengths = if network.addr().is_ipv4() { &mut self.lengths_v4 } else { &mut self.lengths_v6 };
        if !lengths.contains(&network.prefix_len()) {
            lengths.push(network.prefix_len());
        }
    }

    /// What an address with these names may do. An IPv4 address mapped into IPv6 counts as itself.
    pub fn admit(&self, address: IpAddr, names: &[Box<str>]) -> Admission {
        let address = address.to_canonical();
        let lengths = if address.is_ipv4() { &self.lengths_v4 } else { &self.lengths_v6 };
        let mut admission = Admission::default();
        for length in lengths {
            let Ok(network) = IpNet::new(address, *length) else { continue };
            let network = network.trunc();
            if let Some(trusted) = self.networks.get(&network) {
                admission.allowed = true;
                admission.trusted |= trusted;
            }
            admission.trusted |= self.trusted.contains(&network);
        }
        for name in names {
            if let Some(trusted) = self.names.get(name) {
                admission.allowed = true;
                admission.trusted |= trusted;
            }
        }
        admission
    }
}
