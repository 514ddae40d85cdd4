//! What an account is: its fields, each parsed once at the edge, and the value they make.
//!
//! | type | rule |
//! |---|---|
//! | [`Username`] | `[a-z0-9_.-]{1,64}`, never `.` or `..` |
//! | [`DisplayName`] | 1–120 Unicode scalar values, no control characters, no bidi overrides |
//! | [`Email`] | one plain `local@domain`, at most 254 bytes, the domain in its A-label form |
//! | [`Realm`] | 1–64 printable ASCII characters without `:`, `"` and `\`, not `#` alone |
//! | [`Role`] | `[a-z0-9_-]{1,32}` |
//! | [`Account`] | what a store keeps; whatever an operator wrote into it comes back as it was |

mod fields;
mod value;

pub use fields::{DisplayName, Email, Malformed, RESERVED, Realm, Role, Username};
pub use value::{Account, Attributes, Purpose, Status, timestamp, value_in};
