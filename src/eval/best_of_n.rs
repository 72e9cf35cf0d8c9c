//! Best-of-n curves: what the best of n samples by one score is worth by another.

use super::ranks::order;

/// The expected `gold` of the sample with the highest `proxy` among n drawn without replacement from those given, for
/// n = 1, 2, ... to their number: the unbiased estimator of best-of-n [BEST-OF-N]. Samples of equal proxy share their
/// gold, as if one of them were picked at random.
///
/// # Shapes
/// `samples`: (proxy, gold) of one prompt's samples. The result has one value for each n.
#[must_use]
pub fn best_of_n(samples: &[(f64, f64)]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(|a, b| order(b.0, a.0));
    // From the best down, the gold of each rank; equal proxies have one value.
    let mut gold = Vec::with_capacity(sorted.len());
    for tied in sorted.chunk_by(|a, b| order(a.0, b.0).is_eq()) {
        let mean = tied.iter().map(|(_, gold)| gold).sum::<f64>() / tied.len() as f64;
        gold.extend(tied.iter().map(|_| mean));
    }
    let total = gold.len();
    let curve = |n: usize| {
        // The chance that the sample at rank r (from 0) is the best of n: C(total - 1 - r, n - 1) / C(total, n).
        let mut chance = n as f64 / total as f64;
        let mut sum = 0.0;
        for (r, gold) in gold.iter().enumerate().take(total + 1 - n) {
            sum += chance * gold;
            let left = total - 1 - r;
            if left > 0 {
                chance *= (left - (n - 1)) as f64 / left as f64;
            }
        }
        sum
    };
    (1..=total).map(curve).collect()
}

/// KL of best-of-n to the policy that is sampled, in nats per response: `ln n - (n - 1) / n`, which is exact where no two
/// responses are equal and an upper bound otherwise [BEST-OF-N].
#[must_use]
pub fn best_of_n_kl(n: usize) -> f64 {
    let n = n as f64;
    n.ln() - (n - 1.0) / n
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_curve_is_the_mean_over_all_subsets() {
        let samples = [(3.0, 10.0), (1.0, 20.0), (2.0, -5.0), (2.0, 7.0), (0.5, 1.0)];
        let found = best_of_n(&samples);
        for n in 1..=5_u32 {
            let subsets: Vec<u32> = (0..32).filter(|set: &u32| set.count_ones() == n).collect();
            let best = |set: &u32| {
                let inside = || (0..5).filter(|i| set >> i & 1 == 1).map(|i| samples[i]);
                let top = inside().map(|(proxy, _)| proxy).fold(f64::NEG_INFINITY, f64::max);
                let gold: Vec<f64> = inside().filter(|(proxy, _)| *proxy >= top).map(|(_, gold)| gold).collect();
                gold.iter().sum::<f64>() / gold.len() as f64
            };
            let expected = subsets.iter().map(best).sum::<f64>() / subsets.len() as f64;
            assert!((found[n as usize - 1] - expected).abs() < 1e-12, "n = {n}: expected {expected}, found {found:?}");
        }
        assert!(best_of_n(&[]).is_empty());
        assert_eq!(best_of_n(&[(0.0, 2.0), (-0.0, 4.0)]), [3.0, 3.0]);
    }

    #[test]
    fn the_kl_starts_at_nothing() {
        assert!(best_of_n_kl(1).abs() < 1e-12 && (best_of_n_kl(4) - (4.0_f64.ln() - 0.75)).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn the_proxy_itself_only_rises(proxies in proptest::collection::vec(-3.0_f64..3.0, 1..64)) {
            let same: Vec<(f64, f64)> = proxies.iter().map(|&p| (p, p)).collect();
            let curve = best_of_n(&same);
            prop_assert!(curve.windows(2).all(|pair| pair[1] >= pair[0] - 1e-9));
            let best = proxies.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert!((curve[curve.len() - 1] - best).abs() < 1e-9);
        }
    }
}
