//! What fuzzing has found worth keeping, without the fuzzer.

mod events;
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[test]
fn sequences_of_events() {
    replay::each("corpus/engine", events::everything);
}
