//! From a URI to addresses: the procedures of RFC 3263 (with RFC 7984's two address families) as a
//! machine that asks for DNS and never looks anything up.
//!
//! Called by whoever sends to a name. It hands out [`Question`]s, takes an [`Answer`] for each, and
//! ends with [`Targets`] in the order in which they are to be tried, or with why there are none. The
//! caller has the resolver, its cache and its timeouts.

mod plan;
mod targets;

pub use plan::{Request, Unsupported};
pub use targets::{Target, Targets};

use std::fmt;
use std::net::IpAddr;

use cordboard_base::{Map, Random};

use crate::transport::Transport;
use plan::{Host, Plan, Service};

/// More services than this are not asked for: NAPTR records of a name, or transports.
const MAX_SERVICES: usize = 8;
/// More SRV records than this are not used, over all services.
const MAX_HOSTS: usize = 24;
/// More addresses than this are not used of one name and family.
const MAX_ADDRESSES: usize = 8;
/// More targets than this are never tried for one request.
const MAX_TARGETS: usize = 32;

/// What this host can do, and what it prefers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abilities {
    /// The transports that we can send with, the preferred one first (RFC 3263 4.1).
    pub transports: Vec<Transport>,
    /// We have IPv4.
    pub v4: bool,
    /// We have IPv6.
    pub v6: bool,
    /// Of two families IPv6 is tried first, as RFC 6724's default policy has it.
    pub prefer_v6: bool,
}

impl Default for Abilities {
    fn default() -> Self {
        Self { transports: vec![Transport::Udp], v4: true, v6: false, prefer_v6: true }
    }
}

/// What kind of record is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// RFC 3403.
    Naptr,
    /// RFC 2782.
    Srv,
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
}

/// One question for DNS.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question {
    /// A whole name, without the last dot: search lists are not to be applied.
    pub name: String,
    /// What is asked for.
    pub kind: Kind,
}

/// One record of an answer; CNAMEs have been followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// RFC 3403 4.1.
    Naptr {
        /// Lower goes first, and only equals are a choice.
        order: u16,
        /// Lower is preferred among equals.
        preference: u16,
        /// `s`: the replacement has SRV records; `a`: it has addresses.
        flags: String,
        /// `SIP+D2U` and the like.
        service: String,
        /// Empty for SIP.
        regexp: String,
        /// The name to go on with.
        replacement: String,
    },
    /// RFC 2782.
    Srv {
        /// Lower goes first.
        priority: u16,
        /// The share among equals.
        weight: u16,
        /// The port.
        port: u16,
        /// The host, or `.`: the service is decidedly not there.
        target: String,
    },
    /// An address of either family.
    Address(IpAddr),
}

/// What DNS said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The records, in any order.
    Records(Vec<Record>),
    /// The name or the kind does not exist (NXDOMAIN, NODATA).
    Absent,
    /// No answer, SERVFAIL, REFUSED: another time it may be different.
    Failed,
}

/// Why there are no targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unresolved {
    /// DNS says that there is no such host or service, or none in an address family of ours: whoever
    /// wrote the name is at fault; do not retry.
    NoSuchHost,
    /// DNS did not answer: retry later.
    Failed,
    /// The address or the transport that is asked for is none of ours.
    Unreachable,
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchHost => {
                "DNS knows no such host, or no address of it that this node speaks: correct the name"
            }
            Self::Failed => "DNS did not answer: try again later, or look at the name servers",
            Self::Unreachable => "the address or the transport is none that this node speaks",
        })
    }
}

impl std::error::Error for Unresolved {}

/// Where a resolution stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ask these, in any order and at once, and give an answer to each; empty while earlier ones are out.
    Ask(Vec<Question>),
    /// The end.
    Done(Result<Targets, Unresolved>),
}

/// One resolution. At most three rounds of questions (NAPTR, SRV, addresses), each bounded.
#[derive(Debug)]
pub struct Resolution {
    plan: Plan,
    stage: Stage,
    waiting: Vec<Question>,
    answers: Map<Question, Answer>,
    /// Some answer was [`Answer::Failed`], so that what is missing may be there another time.
    failed: bool,
}

/// `Naptr → Services → Hosts → done`; a stage whose questions are not needed is passed over.
#[derive(Debug)]
enum Stage {
    Naptr,
    Services(Vec<Service>),
    Hosts(Vec<Host>),
    Done,
}

impl Resolution {
    /// Begins. A request for an address, or for a name that DNS shall not see, is done at once.
    pub fn start(request: &Request, abilities: &Abilities) -> (Self, Step) {
        let mut this = Self {
            plan: Plan::new(request, abilities),
            stage: Stage::Done,
            waiting: Vec::new(),
            answers: Map::default(),
            failed: false,
        };
        let step = match this.plan.first() {
            plan::First::Targets(result) => Step::Done(result),
            plan::First::Hosts(hosts) => this.ask_hosts(hosts),
            plan::First::Service(service) => {
                let question = service.question();
                this.stage = Stage::Services(vec![service]);
                this.ask(question)
            }
            plan::First::Naptr(question) => {
                this.stage = Stage::Naptr;
                this.ask([question])
            }
        };
        (this, step)
    }

    /// Takes the answer to a question. One that was not asked, or was answered before, changes nothing.
    pub fn answer(&mut self, question: &Question, answer: Answer, random: &mut Random) -> Step {
        let Some(at) = self.waiting.iter().position(|q| q == question) else { return Step::Ask(Vec::new()) };
        let question = self.waiting.swap_remove(at);
        self.failed |= answer == Answer::Failed;
        self.answers.insert(question, answer);
        if !self.waiting.is_empty() {
            return Step::Ask(Vec::new());
        }
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Naptr => {
                let records = self.answers.drain().next().map_or(Vec::new(), |(_, answer)| records(answer));
                let services = self.plan.chosen(records);
                self.ask_services(services, random)
            }
            Stage::Services(services) => self.services_known(services, random),
            Stage::Hosts(hosts) => {
                let targets = self.plan.targets(&hosts, &self.answers);
                self.done(targets)
            }
            Stage::Done => Step::Ask(Vec::new()),
        }
    }

    fn ask_services(&mut self, services: Vec<Service>, random: &mut Random) -> Step {
        let questions: Vec<Question> = services.iter().filter_map(Service::question).collect();
        if questions.is_empty() {
            return self.services_known(services, random);
        }
        self.stage = Stage::Services(services);
        self.ask(questions)
    }

    fn services_known(&mut self, services: Vec<Service>, random: &mut Random) -> Step {
        let hosts = self.plan.hosts(services, &mut self.answers, random);
        self.ask_hosts(hosts)
    }

    fn ask_hosts(&mut self, hosts: Vec<Host>) -> Step {
        if hosts.is_empty() {
            // Every service said that it is not there.
            return self.done(Vec::new());
        }
        let questions: Vec<Question> = hosts.iter().flat_map(|host| self.plan.questions(host)).collect();
        if questions.is_empty() {
            let targets = self.plan.targets(&hosts, &self.answers);
            return self.done(targets);
        }
        self.stage = Stage::Hosts(hosts);
        self.ask(questions)
    }

    fn ask(&mut self, questions: impl IntoIterator<Item = Question>) -> Step {
        for question in questions {
            if !self.waiting.contains(&question) {
                self.waiting.push(question);
            }
        }
        Step::Ask(self.waiting.clone())
    }

    fn done(&mut self, list: Vec<Target>) -> Step {
        self.stage = Stage::Done;
        Step::Done(match (list.is_empty(), self.failed) {
            (false, _) => Ok(Targets::new(list)),
            (true, true) => Err(Unresolved::Failed),
            (true, false) => Err(Unresolved::NoSuchHost),
        })
    }
}

fn records(answer: Answer) -> Vec<Record> {
    match answer {
        Answer::Records(records) => records,
        Answer::Absent | Answer::Failed => Vec::new(),
    }
}
