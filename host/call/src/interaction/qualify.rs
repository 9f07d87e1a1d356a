//! Step 11: whether a call that wants to queue is an ACD call, a call for one agent, or neither.
//!
//! Called by the domain at each enqueue. The tenant's rules stand in order and the first that
//! matches holds; then what is asked for is checked against what the tenant has.

use crate::Attributes;
use crate::Name;
use crate::messages::{QueueRequest, Refusal};
use crate::model::{Qualify, Tenant};

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Qualified {
    /// Into a workgroup's queue.
    Acd {
        workgroup: Name,
        skills: Vec<Name>,
        priority: u8,
        preferred: Option<Name>,
        /// The rule's number from 1, or 0.
        rule: usize,
    },
    /// To a named agent.
    Direct { agent: Name, priority: u8, rule: usize },
}

/// Decides.
pub(crate) fn qualify(
    tenant: &Tenant,
    caller: &str,
    attributes: &Attributes,
    asked: &str,
    request: &QueueRequest,
) -> Result<Qualified, Refusal> {
    let found = tenant.qualify.iter().enumerate().find(|(_, rule)| matches(rule, caller, attributes, asked));
    let (number, rule) = found.map_or((0, None), |(i, rule)| (i + 1, Some(rule)));
    if let Some(reason) = rule.and_then(|r| r.refuse.as_ref()) {
        return Err(refusal("qualified", format!("rule {number} of the tenant refuses the call: {reason}")));
    }
    let added = rule.map_or(0, |r| r.add_priority);
    let priority = (i32::from(request.priority.min(100)) + i32::from(added)).clamp(0, 100) as u8;

    if let Some(agent) = rule.and_then(|r| r.direct.as_deref()).or_else(|| asked.strip_prefix("agent:")) {
        return match tenant.agent(agent) {
            Some(agent) => Ok(Qualified::Direct { agent: agent.name.clone(), priority, rule: number }),
            None => Err(refusal("no-agent", format!("the tenant has no agent named {agent:?}"))),
        };
    }
    let Some(workgroup) = tenant.workgroup(asked) else {
        return Err(refusal("no-workgroup", format!("the tenant has no workgroup named {asked:?}")));
    };
    let mut skills: Vec<Name> = Vec::new();
    for name in request
        .skills
        .iter()
        .map(String::as_str)
        .chain(rule.iter().flat_map(|r| r.add_skills.iter().map(|s| &**s)))
    {
        match tenant.skills.iter().find(|s| &***s == name) {
            Some(skill) if !skills.contains(skill) => skills.push(skill.clone()),
            Some(_) => {}
            None => return Err(refusal("skills", format!("the tenant has no skill named {name:?}"))),
        }
    }
    let preferred = rule.and_then(|r| r.prefer_agent.as_deref()).or(request.preferred_agent.as_deref());
    Ok(Qualified::Acd {
        workgroup: workgroup.name.clone(),
        skills,
        priority,
        preferred: preferred.and_then(|name| tenant.agent(name)).map(|a| a.name.clone()),
        rule: number,
    })
}

/// A refusal with its reason and its text.
pub(crate) fn refusal(reason: &str, text: String) -> Refusal {
    Refusal { reason: reason.to_owned(), text }
}

fn matches(rule: &Qualify, caller: &str, attributes: &Attributes, asked: &str) -> bool {
    caller.starts_with(&rule.caller)
        && rule.workgroup.as_ref().is_none_or(|w| **w == *asked)
        && rule.attribute.as_ref().is_none_or(|wanted| attributes.contains(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Agent, Fallback, Phone};

    fn tenant(qualify: Vec<Qualify>) -> Tenant {
        Tenant {
            name: "acme".into(),
            numbers: Vec::new(),
            router: None,
            script: None,
            fallback: Fallback::Announce { prompt: None, cause: 16 },
            adapters: Vec::new(),
            skills: vec!["en".into(), "fr".into()],
            workgroups: vec![crate::queue::plan::direct_workgroup("support".into(), None)],
            agents: vec![Agent {
                name: "alice".into(),
                phone: Phone::Address("sip:a@h".into()),
                workgroups: vec!["support".into()],
                skills: Vec::new(),
                ready_at_start: false,
            }],
            qualify,
            realm: "acme".into(),
            call_back_grace_ms: 0,
        }
    }

    fn ask(tenant: &Tenant, asked: &str, skills: &[&str]) -> Result<Qualified, String> {
        let request = QueueRequest {
            skills: skills.iter().map(|s| (*s).to_owned()).collect(),
            priority: 95,
            ..QueueRequest::default()
        };
        let vip = vec![("vip".to_owned(), "yes".to_owned())];
        qualify(tenant, "+4930", &vip, asked, &request).map_err(|r| r.reason)
    }

    #[test]
    fn without_rules_the_request_holds() {
        let t = tenant(Vec::new());
        let acd = Qualified::Acd {
            workgroup: "support".into(),
            skills: vec!["fr".into()],
            priority: 95,
            preferred: None,
            rule: 0,
        };
        assert_eq!(ask(&t, "support", &["fr", "fr"]), Ok(acd));
        assert_eq!(
            ask(&t, "agent:alice", &[]),
            Ok(Qualified::Direct { agent: "alice".into(), priority: 95, rule: 0 })
        );
        assert_eq!(ask(&t, "agent:zoe", &[]), Err("no-agent".into()));
        assert_eq!(ask(&t, "sales", &[]), Err("no-workgroup".into()));
        assert_eq!(ask(&t, "support", &["de"]), Err("skills".into()));
    }

    #[test]
    fn the_first_rule_that_matches_holds() {
        let t = tenant(vec![
            Qualify { caller: "+33".into(), refuse: Some("not from there".into()), ..Qualify::default() },
            Qualify {
                caller: "+49".into(),
                attribute: Some(("vip".into(), "yes".into())),
                add_skills: vec!["en".into()],
                add_priority: 20,
                prefer_agent: Some("alice".into()),
                ..Qualify::default()
            },
            Qualify { refuse: Some("never reached".into()), ..Qualify::default() },
        ]);
        let acd = Qualified::Acd {
            workgroup: "support".into(),
            skills: vec!["fr".into(), "en".into()],
            priority: 100,
            preferred: Some("alice".into()),
            rule: 2,
        };
        assert_eq!(ask(&t, "support", &["fr"]), Ok(acd));
    }

    #[test]
    fn a_rule_refuses_or_makes_a_call_direct() {
        let refuse = Qualify { refuse: Some("blocked".into()), ..Qualify::default() };
        assert_eq!(ask(&tenant(vec![refuse]), "support", &[]), Err("qualified".into()));
        let direct =
            Qualify { workgroup: Some("support".into()), direct: Some("alice".into()), ..Qualify::default() };
        let answer = ask(&tenant(vec![direct]), "support", &[]);
        assert_eq!(answer, Ok(Qualified::Direct { agent: "alice".into(), priority: 95, rule: 1 }));
    }
}
