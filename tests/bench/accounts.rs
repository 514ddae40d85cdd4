//! Writes as many accounts as one likes: `credentials` and the `htdigest` view, as the program
//! would have left them.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use codeb_signup::secret::Token;
use data_encoding::BASE64URL_NOPAD;

use crate::http::HOST;

/// The name of an enabled account.
pub fn name(number: u64) -> String {
    format!("member-{number}")
}

/// The activation token of a pending account: the same at each run.
pub fn token(number: u64) -> String {
    let mut bytes = [0x5a; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    BASE64URL_NOPAD.encode(&bytes)
}

/// Writes `enabled` accounts that may sign in and `pending` ones behind them.
pub fn write(state: &Path, enabled: u64, pending: u64) {
    fs::create_dir_all(state).unwrap();
    let file = |name| BufWriter::with_capacity(1 << 20, File::create(state.join(name)).unwrap());
    let (mut credentials, mut view) = (file("credentials"), file("htdigest"));
    for number in 0..enabled {
        let (user, ha1, id) = (name(number), hash(number), hash(number + (1 << 40)));
        write_line(&mut credentials, &user, ha1, '0', &format!("{id:032x}{ha1:032x}"));
        writeln!(view, "{user}:{HOST}:{ha1:032x}").unwrap();
    }
    for number in 0..pending {
        let id = Token::parse(token(number).as_bytes()).unwrap().id().hex();
        write_line(&mut credentials, &format!("waiting-{number}"), hash(number), '1', &id);
    }
    for mut file in [credentials, view] {
        file.flush().unwrap();
        file.get_ref().sync_all().unwrap();
    }
}

fn write_line(to: &mut impl Write, user: &str, ha1: u128, disabled: char, id: &str) {
    writeln!(
        to,
        "{user}:{HOST}:{ha1:032x}:{disabled}:guest:name=Some+Body&email={user}%40mail.example\
         &created=2026-01-01T00%3A00%3A00Z&expires=2099-01-08T00%3A00%3A00Z&activation={id}"
    )
    .unwrap();
}

/// Digits that look like a hash's (the finalizer of splitmix64, twice).
fn hash(number: u64) -> u128 {
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let low = mix(number.wrapping_add(0x9e37_79b9_7f4a_7c15));
    u128::from(mix(low)) << 64 | u128::from(low)
}
