//! Envelopes from one authority to another.

use cordboard_call::messages::Envelope;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::inbox::{Held, Outlet};

/// What lies in the queue: the envelope itself, or its bytes.
#[derive(Debug)]
pub enum Carrier<M> {
    /// As it is.
    Value(Box<Envelope<M>>),
    /// Encoded by postcard.
    Bytes(Vec<u8>),
}

impl<M: DeserializeOwned> Carrier<M> {
    /// The envelope.
    ///
    /// # Errors
    /// When the bytes are not one.
    pub fn open(self) -> Result<Envelope<M>, postcard::Error> {
        match self {
            Self::Value(envelope) => Ok(*envelope),
            Self::Bytes(bytes) => postcard::from_bytes(&bytes),
        }
    }
}

impl<M: Serialize> Carrier<M> {
    /// Packs an envelope.
    ///
    /// # Panics
    /// Never for the messages of `cordboard_call`: postcard fails only on sequences of unknown length.
    pub fn pack(envelope: Envelope<M>, serialise: bool) -> Self {
        if serialise {
            Self::Bytes(postcard::to_stdvec(&envelope).expect("messages have sequences of known length"))
        } else {
            Self::Value(Box::new(envelope))
        }
    }
}

/// The sending end between two authorities. `T` is what the receiver's inbox holds.
#[derive(Debug)]
pub struct Link<T> {
    outlet: Outlet<T>,
    held: Held<T>,
    serialise: bool,
}

impl<T> Link<T> {
    /// A link into an inbox. `serialise` is for tests, and the default of debug builds.
    #[must_use]
    pub fn new(outlet: Outlet<T>, serialise: bool) -> Self {
        Self { outlet, held: Held::default(), serialise }
    }

    /// Puts an envelope on its way, in order; holds when the receiver is behind. The receiver is
    /// woken by [`Self::flush`], once for all that was put.
    pub fn put<M: Serialize>(&mut self, envelope: Envelope<M>)
    where
        T: From<Carrier<M>>,
    {
        let carrier = Carrier::pack(envelope, self.serialise);
        self.held.put(&self.outlet, T::from(carrier));
    }

    /// Wakes the receiver for what was put, and puts what is held; whether the receiver has caught up. While it has not, take no new work.
    pub fn flush(&mut self) -> bool {
        self.held.flush(&self.outlet)
    }

    /// How many envelopes are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Waker, inbox};
    use cordboard_base::Id;
    use cordboard_call::messages::{CallNew, ToDomain, ToShard};

    fn envelope() -> Envelope<ToDomain> {
        Envelope {
            from: 3,
            epoch: 9,
            seq: 17,
            interaction: Some(Id(42)),
            lines: Vec::new(),
            body: ToDomain::CallNew(CallNew {
                tenant: "acme".into(),
                trunk: "carrier".into(),
                caller: "+33".into(),
                caller_name: String::new(),
                called: "100".into(),
                call_id: "x@y".into(),
                attributes: vec![("a".into(), "b".into())],
            }),
        }
    }

    #[test]
    fn an_envelope_survives_both_ways_of_carrying() {
        for serialise in [false, true] {
            let (outlet, inbox) = inbox::<Carrier<ToDomain>>(4, Waker::new(|| {}));
            let mut link = Link::new(outlet, serialise);
            link.put(envelope());
            assert!(link.flush());
            let carrier = inbox.take().unwrap();
            assert_eq!(matches!(carrier, Carrier::Bytes(_)), serialise);
            assert_eq!(carrier.open().unwrap(), envelope());
        }
    }

    #[test]
    fn bytes_that_are_no_envelope_are_an_error() {
        assert!(Carrier::<ToShard>::Bytes(vec![1, 2, 3]).open().is_err());
    }
}
