//! Redirect policy `spare`: each node gets calls by what it can still take, damped.
//!
//! Undamped, every caller of a plan's lifetime would flock to the node that was emptiest when
//! the plan was made, and then to the next. So what a node is about to receive (its calls a second
//! over the plan's lifetime) counts as taken, and the weights are drawn towards the nodes' plain
//! capacity by the setting `damping_percent`. A full node gets nothing. `fixed` is the override
//! of single classes.

mod fixed;

use cordboard_sdk::redirect::*;

/// The policy.
pub struct Spare;

impl Spread for Spare {
    fn plan(nodes: &[Node], classes: &[String]) -> Plan {
        let ttl_s = setting_or("ttl_s", 5_u32).clamp(1, 3_600);
        let damping = u64::from(setting_or("damping_percent", 50_u32).min(100));
        let mut plan = lasting_s(ttl_s).class("default", weights(nodes, ttl_s, damping));
        for class in classes.iter().filter(|class| *class != "default") {
            if let Some(weights) = fixed::weights(class, nodes) {
                plan = plan.class(class.clone(), weights);
            }
        }
        plan
    }
}

/// All zero, which leaves it to the host, when every node is full.
fn weights(nodes: &[Node], ttl_s: u32, damping: u64) -> Vec<u32> {
    let expected = |node: &Node| u64::from(node.calls_per_s) * u64::from(ttl_s);
    let left: Vec<u64> =
        nodes.iter().map(|node| u64::from(node.spare()).saturating_sub(expected(node))).collect();
    let capacity: Vec<u64> =
        nodes.iter().map(|node| if node.spare() == 0 { 0 } else { u64::from(node.capacity) }).collect();
    // Both as shares of a million, so that they can be mixed.
    let (left, capacity) = (shares(&left), shares(&capacity));
    let mixed: Vec<u64> =
        left.iter().zip(&capacity).map(|(left, whole)| left * (100 - damping) + whole * damping).collect();
    let most = mixed.iter().copied().max().unwrap_or(0);
    nodes
        .iter()
        .zip(mixed)
        .map(|(node, share)| match node.spare() {
            0 => 0,
            // A node with any room stays in the plan.
            _ => (share * u64::from(MAX_WEIGHT)).checked_div(most).unwrap_or(0).max(1) as u32,
        })
        .collect()
}

fn shares(values: &[u64]) -> Vec<u64> {
    let sum: u64 = values.iter().sum();
    values.iter().map(|value| (value * 1_000_000).checked_div(sum).unwrap_or(0)).collect()
}

cordboard_sdk::redirect_policy!(Spare);

#[cfg(test)]
mod tests {
    use super::*;
    use cordboard_sdk::redirect::testing::node;
    use cordboard_sdk::testing::settings;

    fn default_weights(nodes: &[Node]) -> Vec<u32> {
        let plan = Spare::plan(nodes, &[]);
        assert_eq!(plan.classes[0].class, "default");
        plan.classes[0].weights.clone()
    }

    #[test]
    fn undamped_weights_are_the_spare_capacity() {
        settings([("damping_percent", "0")]);
        assert_eq!(default_weights(&[node("a", 100, 50, 0), node("b", 100, 75, 0)]), [1_000, 500]);
    }

    #[test]
    fn damping_draws_the_weights_towards_the_capacity() {
        settings([("damping_percent", "50")]);
        let half = default_weights(&[node("a", 100, 50, 0), node("b", 100, 75, 0)]);
        assert!(half[0] == 1_000 && half[1] > 500 && half[1] < 1_000, "{half:?}");
        settings([("damping_percent", "100")]);
        assert_eq!(default_weights(&[node("a", 100, 50, 0), node("b", 100, 75, 0)]), [1_000, 1_000]);
        assert_eq!(default_weights(&[node("a", 100, 50, 0), node("b", 400, 75, 0)]), [250, 1_000]);
    }

    #[test]
    fn a_node_that_calls_flock_to_counts_as_fuller() {
        settings([("damping_percent", "0"), ("ttl_s", "5")]);
        assert_eq!(default_weights(&[node("a", 100, 50, 5), node("b", 100, 75, 0)]), [1_000, 1_000]);
    }

    #[test]
    fn a_full_node_gets_nothing_and_one_with_any_room_something() {
        settings([]);
        let weights = default_weights(&[
            node("a", 100, 100, 0),
            node("b", 100, 140, 0),
            node("c", 9_000_000, 8_999_999, 100),
        ]);
        assert_eq!(weights[..2], [0, 0]);
        assert!(weights[2] > 0);
    }

    #[test]
    fn with_every_node_full_it_is_left_to_the_host() {
        settings([]);
        assert_eq!(default_weights(&[node("a", 10, 10, 0), node("b", 0, 0, 0)]), [0, 0]);
        assert!(default_weights(&[]).is_empty());
    }

    #[test]
    fn nodes_of_any_size_keep_the_weights_in_their_range() {
        settings([]);
        let weights = default_weights(&[
            node("a", u32::MAX, 0, u32::MAX),
            node("b", u32::MAX, 0, 0),
            node("c", 1, 0, 0),
        ]);
        assert!(weights.iter().all(|weight| (1..=MAX_WEIGHT).contains(weight)), "{weights:?}");
    }

    #[test]
    fn a_class_can_have_weights_of_its_own() {
        settings([("classes", "elsewhere: a=1\ncarrier : b=10, *=1"), ("ttl_s", "30")]);
        let nodes = [node("a", 100, 0, 0), node("b", 100, 0, 0), node("c", 100, 100, 0)];
        let plan = Spare::plan(&nodes, &["carrier".to_owned(), "other".to_owned()]);
        assert_eq!(plan.ttl_ms, 30_000);
        assert_eq!(plan.classes.len(), 2);
        assert_eq!(plan.classes[1], ClassWeights { class: "carrier".to_owned(), weights: vec![1, 10, 0] });
    }

    #[test]
    fn an_override_that_cannot_be_read_or_leaves_no_node_is_none() {
        let nodes = [node("a", 100, 0, 0), node("b", 100, 100, 0)];
        for text in ["a", "a=x", "a=1001", "b=5", ""] {
            settings([("classes", &format!("carrier:{text}"))]);
            assert_eq!(Spare::plan(&nodes, &["carrier".to_owned()]).classes.len(), 1, "{text:?}");
        }
        settings([("classes", "carrier:gone=5,a=7")]);
        assert_eq!(Spare::plan(&nodes, &["carrier".to_owned()]).classes[1].weights, [7, 0]);
    }
}
