//! Weights that the operator fixed for classes: the setting `classes`, one class a line, such as
//! `carrier: node-a=100, node-b=20, *=1`. A node that is not named has the weight of `*`, or none.

use cordboard_sdk::redirect::*;

/// The weights of a class, or none when it has no override or one that cannot hold: then the
/// class gets the default weights. A full node gets nothing here either.
pub(crate) fn weights(class: &str, nodes: &[Node]) -> Option<Vec<u32>> {
    let table = setting("classes")?;
    let (line, text) = find(&table, class)?;
    let named = match read(text) {
        Ok(named) => named,
        Err(problem) => {
            log::error!("setting classes, line {line}: {problem}");
            return None;
        }
    };
    let weight_of = |id: &str| named.iter().find(|(name, _)| *name == id).map(|(_, weight)| *weight);
    let rest = weight_of("*").unwrap_or(0);
    let weights: Vec<u32> = nodes
        .iter()
        .map(|node| if node.spare() == 0 { 0 } else { weight_of(&node.id).unwrap_or(rest) })
        .collect();
    if weights.iter().all(|weight| *weight == 0) {
        log::warn!("setting classes, line {line} leaves no node with room: the default weights hold");
        return None;
    }
    Some(weights)
}

/// The line of a class and its number.
fn find<'a>(table: &'a str, class: &str) -> Option<(usize, &'a str)> {
    let lines = table.lines().enumerate();
    let mut named = lines.filter_map(|(index, line)| Some((index + 1, line.split_once(':')?)));
    named.find(|(_, (name, _))| name.trim() == class).map(|(line, (_, text))| (line, text))
}

fn read(text: &str) -> Result<Vec<(&str, u32)>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (node, weight) =
                part.rsplit_once('=').ok_or_else(|| format!("{part:?} is not NODE=WEIGHT"))?;
            match weight.trim().parse() {
                Ok(weight) if weight <= MAX_WEIGHT => Ok((node.trim(), weight)),
                _ => Err(format!("{weight:?} is not a weight from 0 to {MAX_WEIGHT}")),
            }
        })
        .collect()
}
