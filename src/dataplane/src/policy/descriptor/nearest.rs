//! The name that was probably meant.

/// Longer names are compared by their beginnings.
const MOST: usize = 64;

/// `, did you mean x?`; empty if no name is near.
pub fn did_you_mean<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> String {
    let folded: Vec<char> = fold(name);
    let near = names
        .map(|known| (distance(&folded, &fold(known)), known))
        .filter(|(distance, known)| *distance * 2 <= known.chars().count().max(folded.len()))
        .min_by_key(|(distance, _)| *distance);
    near.map_or(String::new(), |(_, known)| format!(" (did you mean {known}?)"))
}

fn fold(name: &str) -> Vec<char> {
    name.chars().take(MOST).flat_map(char::to_lowercase).map(|one| if one == '-' { '_' } else { one }).collect()
}

/// Characters to add, to leave out or to change (Levenshtein 1966).
fn distance(one: &[char], other: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, left) in one.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, right) in other.iter().enumerate() {
            let changed = diagonal + usize::from(left != right);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

/// Names for a reader: the first few.
pub fn listed<'n>(names: impl Iterator<Item = &'n str>) -> String {
    const SHOWN: usize = 12;
    let mut text = String::new();
    for (at, name) in names.enumerate() {
        if at == SHOWN {
            text.push_str(", ...");
            break;
        }
        text.push_str(if at == 0 { "" } else { ", " });
        text.push_str(name);
    }
    if text.is_empty() { "none".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_name_is_not() {
        let names = ["score", "label", "probabilities"];
        assert_eq!(did_you_mean("scoer", names.into_iter()), " (did you mean score?)");
        assert_eq!(did_you_mean("Probabilites", names.into_iter()), " (did you mean probabilities?)");
        assert_eq!(did_you_mean("SPMA", ["HAM", "SPAM"].into_iter()), " (did you mean SPAM?)");
        assert_eq!(did_you_mean("x", names.into_iter()), "");
    }
}
