//! The configuration.

use std::path::Path;

use codeb_signup::config;

/// A text is a configuration, or refused with messages that say what to write; what `check` prints
/// of one is read back as the same.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match config::parse(Path::new("config.toml"), text) {
        Ok(config) => {
            assert!(!config.tenants.is_empty());
            let shown = config.to_string();
            let again = config::parse(Path::new("config.toml"), &shown);
            let again = again.unwrap_or_else(|error| panic!("{error}\n{shown}"));
            assert_eq!(again.to_string(), shown, "what is shown is not what is in effect");
        }
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with("config.toml"), "{message}");
        }
    }
}
