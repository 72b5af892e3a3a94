//! The Pareto front of the candidates, and its knee.

use super::candidate::Candidate;

/// Keeps what nothing beats: cheapest first, each with more benefit than all before it.
pub(super) fn front(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    let key = |candidate: &Candidate| (candidate.cost.bytes, candidate.shape.shards, candidate.budget);
    candidates.sort_by(|one, other| {
        one.cost
            .flops
            .total_cmp(&other.cost.flops)
            .then(other.benefit.total_cmp(&one.benefit))
            .then(key(one).cmp(&key(other)))
    });
    let mut front: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        let better = front.last().is_none_or(|last| candidate.benefit > last.benefit * (1.0 + 1e-12));
        if better {
            front.push(candidate);
        }
    }
    front
}

/// The index of the knee of the front, and why it is recommended.
pub(super) fn knee(front: &[Candidate]) -> (usize, String) {
    // The knee: the point furthest above the chord from the cheapest to the best, cost on a log scale.
    let (first, last) = (&front[0], &front[front.len() - 1]);
    let part = |value: f64, low: f64, high: f64| if high > low { (value - low) / (high - low) } else { 0.0 };
    let above = |candidate: &Candidate| {
        let finite = |benefit: f64| benefit.min(f64::MAX);
        part(finite(candidate.benefit), finite(first.benefit), finite(last.benefit))
            - part(candidate.cost.flops.ln(), first.cost.flops.ln(), last.cost.flops.ln())
    };
    let knee = (0..front.len()).max_by(|one, other| above(&front[*one]).total_cmp(&above(&front[*other]))).unwrap_or(0);
    (
        knee,
        "the knee of the front: beyond it, benefit costs more than before; name the requests wanted to choose by need"
            .into(),
    )
}
