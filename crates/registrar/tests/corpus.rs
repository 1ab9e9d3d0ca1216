//! What fuzzing has found worth keeping, without the fuzzer.

mod asks;
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[test]
fn requests_to_register() {
    replay::each("corpus/register", asks::everything);
}
