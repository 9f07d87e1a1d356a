//! Everything that the support line says, in English and French.
//!
//! Each text has a recorded prompt of the library as its fallback, named `LANGUAGE-NAME`
//! (`fr-greeting`). `prompts.toml` lists them for whoever records or generates the library; a
//! test keeps it equal to the table here.

use cordboard_sdk::ivr::*;

/// A language that the caller can choose. Its tag is also the skill that the agent needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    English,
    French,
}

impl Language {
    pub(crate) fn tag(self) -> &'static str {
        match self {
            Language::English => "en",
            Language::French => "fr",
        }
    }
}

/// Name, English, French.
pub(crate) const WORDS: &[(&str, &str, &str)] = &[
    ("greeting", "Welcome to Cordboard.", "Bienvenue chez Cordboard."),
    ("menu", "For English, press one.", "Pour le français, appuyez sur le deux."),
    ("closed", "Our office is closed now.", "Nos bureaux sont fermés."),
    ("connecting", "We are looking for an agent for you.", "Nous cherchons un conseiller pour vous."),
    ("position-1", "You are next.", "Vous êtes le prochain."),
    ("position-2", "You are number two in the queue.", "Vous êtes en deuxième position."),
    ("position-3", "You are number three in the queue.", "Vous êtes en troisième position."),
    ("position-4", "You are number four in the queue.", "Vous êtes en quatrième position."),
    ("position-5", "You are number five in the queue.", "Vous êtes en cinquième position."),
    ("position-many", "Several callers are before you.", "Plusieurs appels sont avant vous."),
    ("wait-1", "The wait is about one minute.", "L'attente est d'environ une minute."),
    ("wait-2", "The wait is about two minutes.", "L'attente est d'environ deux minutes."),
    ("wait-5", "The wait is about five minutes.", "L'attente est d'environ cinq minutes."),
    ("wait-10", "The wait is about ten minutes.", "L'attente est d'environ dix minutes."),
    ("wait-many", "The wait is more than ten minutes.", "L'attente est de plus de dix minutes."),
    ("exit-star", "To leave a message instead, press star.", "Pour laisser un message, appuyez sur étoile."),
    (
        "exit-hash",
        "To leave a message instead, press the hash key.",
        "Pour laisser un message, appuyez sur dièse.",
    ),
    ("exit-zero", "To leave a message instead, press zero.", "Pour laisser un message, appuyez sur zéro."),
    (
        "returned",
        "We are sorry that you were sent back. You have kept your place.",
        "Nous sommes désolés de ce retour. Vous avez gardé votre place.",
    ),
    ("busy", "Nobody can take your call now.", "Personne ne peut prendre votre appel."),
    (
        "voicemail",
        "Leave a message after the tone, and press the hash key at the end.",
        "Laissez un message après le bip, et appuyez sur dièse à la fin.",
    ),
    ("voicemail-short", "We have heard no message.", "Nous n'avons pas entendu de message."),
    ("voicemail-thanks", "Thank you. We will call you back.", "Merci. Nous vous rappellerons."),
    (
        "survey",
        "How content are you with our help? Press a key from one, not at all, to five, fully.",
        "Êtes-vous satisfait de notre aide ? Appuyez de un, pas du tout, à cinq, tout à fait.",
    ),
    ("survey-thanks", "Thank you for your answer.", "Merci de votre réponse."),
    ("goodbye", "Goodbye.", "Au revoir."),
];

/// Speaks to one caller in one language.
pub(crate) struct Voice<'a> {
    pub(crate) call: &'a Call,
    pub(crate) language: Language,
    pub(crate) recorded: bool,
}

impl Voice<'_> {
    /// Plays a text of the table to its end. What cannot be heard is reported and passed over.
    pub(crate) fn speak(&self, name: &str) -> Result<(), Failure> {
        audible_or(self.call.play([self.prompt(name)]), PlayEnd::Finished).map(drop)
    }

    /// A text of the table as a prompt.
    pub(crate) fn prompt(&self, name: &str) -> Prompt {
        self.spoken_as(name, self.text(name).to_owned())
    }

    /// The caller's place, 1 for the next.
    pub(crate) fn position(&self, position: u32) -> Prompt {
        if position <= 5 {
            return self.prompt(&format!("position-{position}"));
        }
        let text = match self.language {
            Language::English => format!("You are number {position} in the queue."),
            Language::French => format!("Vous êtes en position {position}."),
        };
        self.spoken_as("position-many", text)
    }

    /// The estimate of the wait, rounded up to what a person would say.
    pub(crate) fn wait(&self, wait_s: u32) -> Prompt {
        self.prompt(match wait_s {
            0..=60 => "wait-1",
            61..=120 => "wait-2",
            121..=300 => "wait-5",
            301..=600 => "wait-10",
            _ => "wait-many",
        })
    }

    /// The offer to leave a message by pressing this key.
    pub(crate) fn exit_offer(&self, key: char) -> Prompt {
        self.prompt(match key {
            '#' => "exit-hash",
            '0' => "exit-zero",
            _ => "exit-star",
        })
    }

    fn text(&self, name: &str) -> &'static str {
        let row = WORDS.iter().find(|(key, _, _)| *key == name);
        debug_assert!(row.is_some(), "{name} is not in the table of words");
        match (row, self.language) {
            (Some((_, english, _)), Language::English) => english,
            (Some((_, _, french)), Language::French) => french,
            (None, _) => "",
        }
    }

    fn spoken_as(&self, name: &str, text: String) -> Prompt {
        let tag = self.language.tag();
        let recorded = format!("{tag}-{name}");
        if self.recorded { audio(recorded) } else { say(text).lang(tag).or_audio(recorded) }
    }
}

/// A prompt that cannot be played must not cost the call: it is reported, and the verb counts as
/// ended so.
pub(crate) fn audible_or<T>(result: Result<T, Failure>, otherwise: T) -> Result<T, Failure> {
    match result {
        Err(Failure::Media(text)) => {
            log::warn!("not heard: {text}");
            Ok(otherwise)
        }
        result => result,
    }
}
