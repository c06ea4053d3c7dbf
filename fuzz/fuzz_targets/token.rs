//! Whatever comes as a token or a return path: believed only if it is, octet for octet but for case, what we
//! would make, and never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postroad::token::{Key, bounce, verify};

fuzz_target!(|input: (String, u8)| {
    let (text, id) = input;
    let key = Key::new(id, &[7; 32]);
    if let Ok((claim, key_id)) = verify(&text, &key) {
        let mut made = String::new();
        key.seal(&claim, &mut made);
        assert_eq!((made, key_id), (text.clone(), id));
    }
    if let Ok(said) = bounce::read(&text, &key) {
        let mut made = String::new();
        bounce::write(&key, said.run, said.recipient, &mut made);
        let local = text.split('@').next().unwrap_or_default();
        assert!(made.eq_ignore_ascii_case(local), "{made} {text}");
    }
});
