//! A name server of the test's own: its zone changes while it runs.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, NAPTR, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // as they are called
pub enum Mood {
    Answers,
    Fails,
    Silent,
}

#[derive(Default)]
struct Zone {
    records: HashMap<(Name, RecordType), Vec<Record>>,
    mood: Option<Mood>,
    asked: HashMap<(Name, RecordType), usize>,
}

/// A name server on UDP port 5353 of an address; it ends with it.
pub struct Dns {
    ip: Ipv4Addr,
    zone: Arc<Mutex<Zone>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Dns {
    /// Starts with an empty zone.
    pub fn start(ip: Ipv4Addr) -> Dns {
        let socket = UdpSocket::bind((ip, 5353)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let (zone, stop) = (Arc::<Mutex<Zone>>::default(), Arc::new(AtomicBool::new(false)));
        let (served, stopped) = (zone.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !stopped.load(Relaxed) {
                let Ok((length, peer)) = socket.recv_from(&mut buffer) else { continue };
                if let Some(answer) = served.lock().unwrap().answer(&buffer[..length]) {
                    socket.send_to(&answer, peer).unwrap();
                }
            }
        });
        Dns { ip, zone, stop, thread: Some(thread) }
    }

    /// Settings that name it.
    pub fn settings(&self) -> String {
        format!("[dns]\nservers = [\"{}:5353\"]\n", self.ip)
    }

    /// How it answers from now on.
    pub fn mood(&self, mood: Mood) {
        self.zone.lock().unwrap().mood = Some(mood);
    }

    /// Replaces the addresses of a name.
    pub fn a(&self, name: &str, ttl: u32, addresses: &[Ipv4Addr]) {
        self.set(name, RecordType::A, ttl, addresses.iter().map(|address| RData::A(A(*address))).collect());
    }

    /// Replaces the SRV records of a name: priority, weight, port, host.
    pub fn srv(&self, name: &str, ttl: u32, records: &[(u16, u16, u16, &str)]) {
        let record = |(priority, weight, port, host): &(u16, u16, u16, &str)| {
            RData::SRV(SRV::new(*priority, *weight, *port, self::name(host)))
        };
        self.set(name, RecordType::SRV, ttl, records.iter().map(record).collect());
    }

    /// Replaces the NAPTR records of a name: order, preference, service, replacement.
    pub fn naptr(&self, name: &str, ttl: u32, records: &[(u16, u16, &str, &str)]) {
        let record = |(order, preference, service, replacement): &(u16, u16, &str, &str)| {
            let (flags, service) = (b"s".as_slice().into(), service.as_bytes().into());
            RData::NAPTR(NAPTR::new(*order, *preference, flags, service, Box::default(), self::name(replacement)))
        };
        self.set(name, RecordType::NAPTR, ttl, records.iter().map(record).collect());
    }

    fn set(&self, name: &str, kind: RecordType, ttl: u32, data: Vec<RData>) {
        let name = self::name(name);
        let records = data.into_iter().map(|data| Record::from_rdata(name.clone(), ttl, data)).collect();
        self.zone.lock().unwrap().records.insert((name, kind), records);
    }

    /// How often it was asked for the addresses of a name.
    pub fn asked(&self, name: &str) -> usize {
        self.zone.lock().unwrap().asked.get(&(self::name(name), RecordType::A)).copied().unwrap_or(0)
    }

    /// Where it listens.
    pub fn ip(&self) -> IpAddr {
        self.ip.into()
    }
}

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

impl Zone {
    fn answer(&mut self, query: &[u8]) -> Option<Vec<u8>> {
        let query = Message::from_vec(query).ok()?;
        let asked = query.queries.first()?.clone();
        let key = (asked.name().to_lowercase(), asked.query_type());
        *self.asked.entry(key.clone()).or_default() += 1;
        let mut answer = Message::response(query.metadata.id, OpCode::Query);
        answer.metadata.recursion_desired = true;
        answer.metadata.recursion_available = true;
        answer.metadata.authoritative = true;
        match self.mood.unwrap_or(Mood::Answers) {
            Mood::Silent => return None,
            Mood::Fails => answer.metadata.response_code = ResponseCode::ServFail,
            Mood::Answers => match self.records.get(&key) {
                Some(records) => drop(answer.add_answers(records.iter().cloned())),
                None if self.records.keys().any(|(name, _)| *name == key.0) => {}
                None => answer.metadata.response_code = ResponseCode::NXDomain,
            },
        }
        answer.add_query(asked);
        answer.to_vec().ok()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there has failed the test already.
            let _ = thread.join();
        }
    }
}
