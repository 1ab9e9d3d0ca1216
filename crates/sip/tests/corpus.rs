//! What fuzzing has found worth keeping, without the fuzzer.

mod addresses;
mod cuts;
mod reads;
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[test]
fn messages() {
    replay::each("corpus/message", reads::everything);
    for messages in ["rfc4475", "rfc5118"] {
        replay::each(&format!("../tests/messages/{messages}"), reads::everything);
    }
}

#[test]
fn streams() {
    replay::each("corpus/framing", cuts::everything);
}

#[test]
fn addresses_and_parameters() {
    replay::each("corpus/uri", addresses::everything);
}
