//! From names and texts to audio, before a verb is sent.
//!
//! The server keeps the library and the synthesiser behind [`Prompts`]; here is only the rule of the
//! contract that a speech which cannot be synthesised is replaced by its fallback prompt.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use cordboard_call::Name;
use cordboard_call::script::Sound;
use cordboard_media::clip::Clip;

use super::{State, other, wit};

/// A clip, now or later.
pub enum Fetch {
    /// It was at hand.
    Now(Result<Arc<Clip>, String>),
    /// It must be loaded or synthesised. Dropped when the caller hangs up.
    Later(Pin<Box<dyn Future<Output = Result<Arc<Clip>, String>> + Send>>),
}

/// The tenant's prompts and its synthesiser. Errors are texts for the script.
///
/// Called on a guest's thread: it must not block; work goes into [`Fetch::Later`].
pub trait Prompts: Send + Sync + 'static {
    /// A prompt of the tenant's library.
    fn clip(&self, tenant: &Name, name: &str) -> Fetch;
    /// A text, synthesised in a language (BCP 47).
    fn speech(&self, tenant: &Name, text: &str, language: &str) -> Fetch;
}

/// Text of one prompt; what is longer is refused.
const MAX_TEXT_BYTES: usize = 4_096;

impl State {
    /// Resolves the prompts of a verb.
    pub(super) async fn sounds(
        &mut self,
        prompts: Vec<wit::Prompt>,
        most: usize,
    ) -> Result<Vec<Sound>, wit::Failure> {
        if prompts.len() > most {
            return Err(other(format!(
                "{} prompts in one verb, and the limit `prompts` is {most}",
                prompts.len()
            )));
        }
        let mut sounds = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            sounds.push(match prompt {
                wit::Prompt::Audio(name) => {
                    let fetch = self.around.prompts.clip(&self.info.tenant, &name);
                    let clip = self.fetched(fetch).await?.map_err(wit::Failure::Media)?;
                    Sound::Clip { name, clip }
                }
                wit::Prompt::Speech(speech) => self.speech(speech).await?,
                wit::Prompt::SilenceMs(ms) => Sound::Silence { ms: ms.min(60_000) },
            });
        }
        Ok(sounds)
    }

    /// A speech, or its fallback prompt when it cannot be synthesised.
    async fn speech(&mut self, speech: wit::Speech) -> Result<Sound, wit::Failure> {
        if speech.text.len() > MAX_TEXT_BYTES {
            return Err(other(format!("a text of more than {MAX_TEXT_BYTES} bytes in one prompt")));
        }
        let fetch = self.around.prompts.speech(&self.info.tenant, &speech.text, &speech.language);
        let why = match self.fetched(fetch).await? {
            Ok(clip) => return Ok(Sound::Clip { name: speech.text, clip }),
            Err(why) => why,
        };
        let Some(name) = speech.fallback else { return Err(wit::Failure::Media(why)) };
        let fetch = self.around.prompts.clip(&self.info.tenant, &name);
        match self.fetched(fetch).await? {
            Ok(clip) => Ok(Sound::Clip { name, clip }),
            Err(also) => Err(wit::Failure::Media(format!("{why}; and its fallback: {also}"))),
        }
    }

    /// Waits for a clip, at most until the caller hangs up.
    async fn fetched(&self, fetch: Fetch) -> Result<Result<Arc<Clip>, String>, wit::Failure> {
        let later = match fetch {
            Fetch::Now(clip) => return Ok(clip),
            Fetch::Later(later) => later,
        };
        let mut later = later;
        let mut hung_up = pin!(self.mailbox.hung_up());
        std::future::poll_fn(|cx| {
            if let Poll::Ready(clip) = later.as_mut().poll(cx) {
                return Poll::Ready(Ok(clip));
            }
            hung_up.as_mut().poll(cx).map(|_| Err(wit::Failure::HungUp))
        })
        .await
    }
}
