//! Whatever a server sends, cut anywhere: no panic, and the same answers however it was cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postroad::smtp::replies::ReplyReader;

fn read(octets: &[u8], piece: usize) -> (Vec<(u16, String)>, bool) {
    let mut reader = ReplyReader::default();
    let mut answers = Vec::new();
    for piece in octets.chunks(piece) {
        let mut rest = piece;
        while !rest.is_empty() {
            let spare = reader.spare();
            let taken = rest.len().min(spare.len());
            spare[..taken].copy_from_slice(&rest[..taken]);
            reader.filled(taken);
            rest = &rest[taken..];
            loop {
                match reader.next() {
                    Ok(Some(answer)) => answers.push((answer.code(), answer.to_reply().to_string())),
                    Ok(None) => break,
                    Err(_) => return (answers, true),
                }
            }
        }
    }
    (answers, false)
}

fuzz_target!(|octets: &[u8]| {
    let whole = read(octets, usize::MAX);
    assert_eq!(whole, read(octets, 1));
    assert_eq!(whole, read(octets, 7));
});
