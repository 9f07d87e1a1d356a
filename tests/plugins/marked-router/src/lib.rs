//! A router that leads every call to the script `marked-ivr` and shows its version as the attribute `router`.

#[path = "../../marked.rs"]
mod marked;

use cordboard_sdk::router::*;

/// The router.
pub struct Marked;

impl Router for Marked {
    fn route(_: &Incoming) -> Result<Route, NoRoute> {
        Ok(script("marked-ivr").attribute("router", marked::mark()).into())
    }
}

cordboard_sdk::call_router!(Marked);
