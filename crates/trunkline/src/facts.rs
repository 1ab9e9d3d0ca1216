//! From a record and what its name resolves to, to what routing knows of a trunk.

use std::net::SocketAddr;
use std::sync::Arc;

use net::{Names, Service, State};
use registry::{Binding, Transport, Trunk, View};
use routing::{Facts, Place, TlsPeer};

/// What a trunk is found by; none where its URI has an address, or it registers by SIP.
pub fn service(view: &View) -> Option<Service> {
    let trunk = &view.trunk;
    let uri = sip::Uri::parse(trunk.sip_uri.as_bytes()).ok().filter(|_| trunk.register.is_none())?;
    Service::of(&uri, trunk.transport_given.then_some(trunk.transport))
}

/// What routing knows of a trunk.
pub fn of(view: &View, names: &Names, transports: &[Transport]) -> Facts {
    let trunk = &*view.trunk;
    let (mut places, mut unreachable) = match (&trunk.register, &view.binding) {
        (Some(_), Some(binding)) => (vec![bound(binding)], None),
        // The registry says that it is not registered.
        (Some(_), None) => (Vec::new(), Some(String::new())),
        (None, _) => resolve(view, names),
    };
    if let Some(transport) = places.iter().map(|place| place.transport).find(|t| !transports.contains(t)) {
        places.retain(|place| transports.contains(&place.transport));
        if places.is_empty() {
            unreachable = Some(format!("transport {transport} is not available"));
        }
    }
    let tls = Arc::new(peer(trunk));
    for place in places.iter_mut().filter(|place| place.transport == Transport::Tls) {
        place.tls = Some(tls.clone());
    }
    let words = |wanted: fn(&registry::Reason) -> bool| {
        view.reasons.iter().filter(|reason| wanted(reason)).map(ToString::to_string).collect()
    };
    let probe = trunk.probe.as_deref();
    let sip_uri = match (&trunk.register, &view.binding) {
        (Some(_), Some(binding)) => binding.contact.clone(),
        _ => trunk.sip_uri.to_string(),
    };
    Facts {
        sip_uri,
        group: trunk.group().into(),
        places,
        priority: trunk.priority,
        weight: trunk.weight,
        max_channels: trunk.max_channels,
        max_cps: trunk.max_cps,
        reroute_on: trunk.reroute_on().to_vec(),
        reroute_causes: trunk.reroute_causes().to_vec(),
        trusted: trunk.trusted,
        large_over_tcp: trunk.large_over_tcp,
        sources: trunk.sources.to_vec(),
        probe_from: probe.and_then(|probe| probe.from.as_deref()).map(str::to_owned),
        probe_host: probe.and_then(|probe| probe.host.as_deref()).map(str::to_owned),
        certificate_name: certificate_name(trunk),
        obstacles: words(|reason| !reason.is_doubt()),
        doubts: words(|reason| reason.is_doubt() && !reason.is_rest()),
        rests: words(registry::Reason::is_rest),
        unreachable: unreachable.filter(|why| !why.is_empty()),
        stale: service(view).is_some_and(|service| matches!(names.get(&service), State::Known { stale: true, .. })),
    }
}

/// Where a peer that registered is reached: where its REGISTER came from, and by the same connection.
fn bound(binding: &Binding) -> Place {
    Place {
        address: binding.source,
        transport: binding.transport,
        priority: 0,
        weight: 0,
        connection: binding.connection,
        only: true,
        tls: None,
    }
}

fn peer(trunk: &Trunk) -> TlsPeer {
    let tls = trunk.tls.as_deref().cloned().unwrap_or_default();
    TlsPeer { verify_name: verify_name(trunk).into(), authority: tls.authority, certificate: tls.certificate }
}

/// The name that the trunk's certificate must hold (RFC 5922 §7.2).
fn verify_name(trunk: &Trunk) -> String {
    let given = trunk.tls.as_ref().and_then(|tls| tls.verify_name.as_deref());
    let host = || {
        let uri = sip::Uri::parse(trunk.sip_uri.as_bytes());
        uri.map(|uri| String::from_utf8_lossy(uri.host_bytes).into_owned()).unwrap_or_default()
    };
    given.map_or_else(host, str::to_owned)
}

/// A certificate with this name is the trunk's own, where it calls us. An address is no name: it proves itself.
fn certificate_name(trunk: &Trunk) -> Option<String> {
    let name = verify_name(trunk).to_ascii_lowercase();
    let is_name =
        sip::Uri::parse(format!("sip:{name}").as_bytes()).is_ok_and(|uri| matches!(uri.host, sip::Host::Name(_)));
    (trunk.transport == Transport::Tls && is_name).then_some(name)
}

fn resolve(view: &View, names: &Names) -> (Vec<Place>, Option<String>) {
    let trunk = &view.trunk;
    let Ok(uri) = sip::Uri::parse(trunk.sip_uri.as_bytes()) else { return (Vec::new(), None) };
    if let sip::Host::Ip(ip) = uri.host {
        let port = uri.port.unwrap_or(trunk.transport.default_port());
        let place = Place { transport: trunk.transport, ..Place::udp(SocketAddr::new(ip, port)) };
        return (vec![place], None);
    }
    let Some(service) = service(view) else { return (Vec::new(), None) };
    let name = &service.host;
    match names.get(&service) {
        State::Known { places, .. } => (places.to_vec(), None),
        State::Pending => (Vec::new(), Some(format!("unresolved: {name} (asking)"))),
        State::Failed(why) => (Vec::new(), Some(format!("unresolved: {name} ({why})"))),
    }
}
