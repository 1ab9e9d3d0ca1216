//! Who may place calls, and whose calls they are: by address, or by the names of a verified certificate.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

/// What a source of requests may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// It may place calls.
    pub allowed: bool,
    /// What it asserts about identities is believed (RFC 3325 §2.2).
    pub trusted: bool,
}

/// What is known of a network, or of a name.
#[derive(Clone, Debug, Default)]
struct Origin {
    trusted: bool,
    /// Trunks whose own calls come from there.
    trunks: Vec<Arc<str>>,
}

/// A set of networks and certificate names. A look-up costs one hash probe for each prefix length in use.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    networks: HashMap<IpNet, Origin>,
    lengths_v4: Vec<u8>,
    lengths_v6: Vec<u8>,
    names: HashMap<Box<str>, Origin>,
    /// Networks that are trusted, whether they may place calls or not.
    trusted: HashSet<IpNet>,
}

impl Origin {
    fn add(&mut self, trusted: bool, trunk: Option<&Arc<str>>) {
        self.trusted |= trusted;
        // What one trunk adds it adds in a row.
        if let Some(trunk) = trunk.filter(|trunk| self.trunks.last() != Some(trunk)) {
            self.trunks.push(trunk.clone());
        }
    }
}

impl Sources {
    /// Adds a network, of a trunk or of the settings. Where two that hold an address differ, trust in one is trust.
    pub fn insert(&mut self, network: IpNet, trusted: bool, trunk: Option<&Arc<str>>) {
        let network = network.trunc();
        self.note_length(network);
        self.networks.entry(network).or_default().add(trusted, trunk);
    }

    /// Adds a name of certificates, in lower case.
    pub fn insert_name(&mut self, name: &str, trusted: bool, trunk: &Arc<str>) {
        self.names.entry(name.into()).or_default().add(trusted, Some(trunk));
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

    /// The networks in use that would hold an address. An IPv4 address mapped into IPv6 counts as itself.
    fn networks_of(&self, address: IpAddr) -> impl Iterator<Item = IpNet> {
        let address = address.to_canonical();
        let lengths = if address.is_ipv4() { &self.lengths_v4 } else { &self.lengths_v6 };
        lengths.iter().filter_map(move |length| IpNet::new(address, *length).ok()).map(|network| network.trunc())
    }

    fn origins_of(&self, address: IpAddr, names: &[Box<str>]) -> impl Iterator<Item = &Origin> {
        let by_address = self.networks_of(address).filter_map(|network| self.networks.get(&network));
        by_address.chain(names.iter().filter_map(|name| self.names.get(name)))
    }

    /// What an address with these names may do.
    pub fn admit(&self, address: IpAddr, names: &[Box<str>]) -> Admission {
        let mut admission = Admission::default();
        for origin in self.origins_of(address, names) {
            admission.allowed = true;
            admission.trusted |= origin.trusted;
        }
        admission.trusted |=
            !self.trusted.is_empty() && self.networks_of(address).any(|network| self.trusted.contains(&network));
        admission
    }

    /// Trunks whose own calls come from this address, or with one of these names.
    pub fn trunks_of(&self, address: IpAddr, names: &[Box<str>]) -> impl Iterator<Item = &Arc<str>> {
        self.origins_of(address, names).flat_map(|origin| &origin.trunks)
    }
}
