//! Where a SIP URI leads (RFC 3263 §4): NAPTR, SRV, A and AAAA, as far as the URI leaves them open.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use routing::Place;
use sip::Transport;

use crate::resolve::{ResolveError, Resolved};

/// Places of one service that are used; more serve nobody.
const MOST_PLACES: usize = 32;
/// Hosts of one service that are asked for.
const MOST_HOSTS: usize = 16;
/// Between the priorities of one kind of service and of the next best: those of SRV have 16 bits.
const RANK: u32 = 1 << 16;

/// What a URI says about where it leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// Host name, in lower case.
    pub host: Box<str>,
    /// Its port, if it names one.
    pub port: Option<u16>,
    /// Its transport, if it is told; else NAPTR or SRV records choose.
    pub transport: Option<Transport>,
    /// A `sips:` URI: TLS alone.
    pub secure: bool,
}

impl Service {
    /// What a URI says; none where its host is an address, which needs no look-up. `transport` is what else is
    /// known of the transport.
    pub fn of(uri: &sip::Uri<'_>, transport: Option<Transport>) -> Option<Service> {
        let sip::Host::Name(host) = uri.host else { return None };
        let host = std::str::from_utf8(host).ok().filter(|host| !host.is_empty())?;
        let secure = uri.scheme == sip::Scheme::Sips;
        let transport = transport.or(uri.named_transport());
        let transport = if secure { transport.map(|_| Transport::Tls) } else { transport };
        Some(Service { host: host.to_ascii_lowercase().into(), port: uri.port, transport, secure })
    }
}

/// A kind of service, and what its SRV records are called.
const KINDS: [(Transport, &str, &[u8]); 3] = [
    (Transport::Udp, "_sip._udp.", b"SIP+D2U"),
    (Transport::Tcp, "_sip._tcp.", b"SIP+D2T"),
    (Transport::Tls, "_sips._tcp.", b"SIPS+D2T"),
];

/// Gathers the places of a service, and how long they hold.
struct Search<'a> {
    resolver: &'a TokioResolver,
    places: Vec<Place>,
    hosts: usize,
    until: Option<Instant>,
    /// What went wrong with one of several hosts.
    trouble: Option<ResolveError>,
}

/// Looks a service up.
pub(crate) async fn locate(resolver: &TokioResolver, service: &Service) -> Result<Resolved, ResolveError> {
    let mut search = Search { resolver, places: Vec::new(), hosts: 0, until: None, trouble: None };
    search.service(service).await?;
    let Search { mut places, until, trouble, .. } = search;
    if places.is_empty() {
        return Err(trouble.unwrap_or_else(|| ResolveError(format!("{} has no address", service.host))));
    }
    // A fixed order, so that equal answers compare equal.
    places.sort_by_key(|place| (place.priority, place.address.is_ipv6(), place.address, place.transport));
    places.dedup_by(|a, b| a.is_same(b));
    places.truncate(MOST_PLACES);
    let ttl = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
    Ok(Resolved { places, ttl })
}

impl Search<'_> {
    async fn service(&mut self, service: &Service) -> Result<(), ResolveError> {
        let usual = if service.secure { Transport::Tls } else { Transport::Udp };
        if let Some(port) = service.port {
            let transport = service.transport.unwrap_or(usual);
            return self.addresses(&service.host, port, transport, 0, 0).await;
        }
        let kinds = KINDS.iter().filter(|(transport, ..)| !service.secure || *transport == Transport::Tls);
        if let Some(transport) = service.transport {
            for (_, prefix, _) in kinds.filter(|(other, ..)| *other == transport) {
                if self.srv(&format!("{prefix}{}", service.host), transport, 0).await? {
                    return Ok(());
                }
            }
            return self.addresses(&service.host, transport.default_port(), transport, 0, 0).await;
        }
        let mut found = false;
        for (rank, (transport, replacement)) in self.naptr(service).await?.into_iter().enumerate() {
            found |= self.srv(&replacement, transport, rank as u32 * RANK).await?;
        }
        if !found {
            for (rank, (transport, prefix, _)) in kinds.enumerate() {
                found |= self.srv(&format!("{prefix}{}", service.host), *transport, rank as u32 * RANK).await?;
            }
        }
        if found { Ok(()) } else { self.addresses(&service.host, usual.default_port(), usual, 0, 0).await }
    }

    /// The kinds of service that a host has, the best first (§4.1).
    async fn naptr(&mut self, service: &Service) -> Result<Vec<(Transport, String)>, ResolveError> {
        let mut found = Vec::new();
        for record in self.records(&service.host, RecordType::NAPTR).await?.unwrap_or_default() {
            let RData::NAPTR(naptr) = record else { continue };
            let kind = KINDS.iter().find(|(.., name)| naptr.services.eq_ignore_ascii_case(name));
            let fits = naptr.flags.eq_ignore_ascii_case(b"s") && naptr.regexp.is_empty();
            if let Some((transport, ..)) =
                kind.filter(|(transport, ..)| fits && (!service.secure || *transport == Transport::Tls))
            {
                found.push(((naptr.order, naptr.preference), *transport, naptr.replacement.to_utf8()));
            }
        }
        found.sort();
        Ok(found.into_iter().map(|(_, transport, replacement)| (transport, replacement)).collect())
    }

    /// Takes the SRV records of a name; whether there are any.
    async fn srv(&mut self, name: &str, transport: Transport, rank: u32) -> Result<bool, ResolveError> {
        let Some(records) = self.records(name, RecordType::SRV).await? else { return Ok(false) };
        let mut records: Vec<_> = records
            .into_iter()
            .filter_map(|record| if let RData::SRV(srv) = record { Some(srv) } else { None })
            .collect();
        records.sort_by_key(|srv| srv.priority);
        if let [srv] = records.as_slice()
            && srv.target.is_root()
        {
            // RFC 2782: the service is decidedly not available here.
            self.trouble = Some(ResolveError(format!("{name} says that there is no such service")));
            return Ok(true);
        }
        for srv in &records {
            let host = srv.target.to_utf8();
            let priority = rank + u32::from(srv.priority);
            if let Err(error) = self.addresses(&host, srv.port, transport, priority, srv.weight).await {
                // The others may do.
                self.trouble = Some(error);
            }
        }
        Ok(!records.is_empty())
    }

    async fn addresses(
        &mut self,
        host: &str,
        port: u16,
        transport: Transport,
        priority: u32,
        weight: u16,
    ) -> Result<(), ResolveError> {
        self.hosts += 1;
        if self.hosts > MOST_HOSTS {
            return Ok(());
        }
        let shown = host.trim_end_matches('.');
        let answer = match self.resolver.lookup_ip(host).await {
            Ok(answer) => answer,
            Err(error) if error.is_nx_domain() => return Err(ResolveError(format!("{shown} does not exist"))),
            Err(error) if error.is_no_records_found() => {
                return Err(ResolveError(format!("{shown} has no address")));
            }
            Err(error) => return Err(ResolveError(format!("{shown}: {error}"))),
        };
        self.note(answer.valid_until());
        let addresses: Vec<IpAddr> = answer.iter().take(MOST_PLACES).collect();
        for address in addresses {
            let address = SocketAddr::new(address, port);
            self.places.push(Place { transport, priority, weight, ..Place::udp(address) });
        }
        Ok(())
    }

    /// The records of a name and type; none where there are none.
    async fn records(&mut self, name: &str, kind: RecordType) -> Result<Option<Vec<RData>>, ResolveError> {
        let broken = |error: NetError| ResolveError(format!("{}: {error}", name.trim_end_matches('.')));
        // What no DNS name can be has no records; the hosts file may know it yet.
        let Ok(mut fully) = Name::from_utf8(name) else { return Ok(None) };
        fully.set_fqdn(true);
        match self.resolver.lookup(fully, kind).await {
            Ok(answer) => {
                let records: Vec<RData> = answer
                    .answers()
                    .iter()
                    .filter(|record| record.record_type() == kind)
                    .map(|record| record.data.clone())
                    .take(MOST_PLACES)
                    .collect();
                if records.is_empty() {
                    return Ok(None);
                }
                self.note(answer.valid_until());
                Ok(Some(records))
            }
            Err(error) if error.is_nx_domain() || error.is_no_records_found() => Ok(None),
            Err(error) => Err(broken(error)),
        }
    }

    /// The whole holds as long as its shortest part.
    fn note(&mut self, until: Instant) {
        self.until = Some(self.until.map_or(until, |known| known.min(until)));
    }
}
