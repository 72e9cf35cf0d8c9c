//! Closed-form companions of the bootstrap: Wilson's interval, the exact sign test, Holm's correction.
//!
//! For plain proportions and counts; what has two levels is left to `bootstrap`.

/// Wilson's score interval of the proportion `successes / n` [WILSON]; draws may count one half.
///
/// Without trials nothing is known: the interval is `[0, 1]`.
#[must_use]
pub fn wilson(successes: f64, n: usize, confidence: f64) -> [f64; 2] {
    if n == 0 {
        return [0.0, 1.0];
    }
    let n = n as f64;
    let z = normal_quantile(f64::midpoint(1.0, confidence));
    let share = successes / n;
    let shrink = 1.0 + z * z / n;
    let centre = (share + z * z / (2.0 * n)) / shrink;
    let half_width = z * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt() / shrink;
    [(centre - half_width).max(0.0), (centre + half_width).min(1.0)]
}

/// Exact two-sided sign test: the chance of counts at least as uneven as `wins` to `losses` if both were equally likely.
///
/// Draws are left out by the caller; without wins and losses the p-value is 1. Of two yes/no answers to the same questions,
/// where `wins` and `losses` are those that only one side has right, this is McNemar's exact test [MCNEMAR].
#[must_use]
pub fn sign_test(wins: usize, losses: usize) -> f64 {
    let n = wins + losses;
    // The logarithm of C(n, k) / 2^n, from one k to the next.
    let mut log_chance = -(n as f64) * std::f64::consts::LN_2;
    let mut tail = 0.0;
    for k in 0..=wins.min(losses) {
        tail += log_chance.exp();
        log_chance += ((n - k) as f64).ln() - ((k + 1) as f64).ln();
    }
    (2.0 * tail).min(1.0)
}

/// Holm's step-down correction: adjusted p-values that keep the family-wise error rate [HOLM], in the order given.
#[must_use]
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&i, &j| p_values[i].total_cmp(&p_values[j]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut highest: f64 = 0.0;
    for (rank, index) in order.into_iter().enumerate() {
        highest = highest.max(p_values[index] * (p_values.len() - rank) as f64).min(1.0);
        adjusted[index] = highest;
    }
    adjusted
}

/// The standard normal's quantile at `p`, by Acklam's rational approximation (relative error below 1.2e-9).
#[must_use]
pub fn normal_quantile(p: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 6] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 5] =
        [7.784_695_709_041_462e-3, 3.224_671_290_700_398e-1, 2.445_134_137_142_996, 3.754_408_661_907_416, 1.0];
    const TAIL: f64 = 0.024_25;
    let polynomial = |coefficients: &[f64], x: f64| coefficients.iter().fold(0.0, |sum, c| sum * x + c);
    if p <= 0.0 || p >= 1.0 {
        return if p <= 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    if p > 1.0 - TAIL {
        return -normal_quantile(1.0 - p);
    }
    if p < TAIL {
        let q = (-2.0 * p.ln()).sqrt();
        return polynomial(&C, q) / polynomial(&D, q);
    }
    let q = p - 0.5;
    q * polynomial(&A, q * q) / polynomial(&B, q * q)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn assert_close(found: &[f64], expected: &[f64], tolerance: f64) {
        assert_eq!(found.len(), expected.len());
        for (f, e) in found.iter().zip(expected) {
            assert!((f - e).abs() < tolerance, "expected {expected:?}, found {found:?}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_tables() {
        let found = [0.5, 0.975, 0.995, 0.01, 0.84].map(normal_quantile);
        assert_close(&found, &[0.0, 1.959_963_985, 2.575_829_304, -2.326_347_874, 0.994_457_883], 1e-7);
    }

    #[test]
    fn wilson_agrees_with_the_published_examples() {
        // Newcombe (1998), Statistics in Medicine 17, table I, method 3.
        assert_close(&wilson(81.0, 263, 0.95), &[0.2553, 0.3662], 5e-5);
        assert_close(&wilson(15.0, 148, 0.95), &[0.0624, 0.1605], 5e-5);
        assert_close(&wilson(0.0, 20, 0.95), &[0.0, 0.1611], 5e-5);
        assert_close(&wilson(1.0, 29, 0.95), &[0.0061, 0.1718], 5e-5);
        assert_close(&wilson(0.0, 0, 0.95), &[0.0, 1.0], 1e-12);
    }

    #[test]
    fn the_sign_test_counts_both_tails() {
        // 9 to 1: 2 (1 + 10) / 1024.
        assert_close(&[sign_test(9, 1), sign_test(1, 9)], &[22.0 / 1024.0; 2], 1e-12);
        assert_close(&[sign_test(0, 0), sign_test(5, 5)], &[1.0, 1.0], 1e-12);
        assert!(sign_test(2000, 1000) < 1e-60, "large counts must not underflow to the wrong side");
    }

    #[test]
    fn mcnemar_agrees_with_the_published_example() {
        // Agresti (2002), table 10.1: of 1600 people asked twice, 150 approved only at first and 86 only later. The
        // exact p-value is a sum of binomial coefficients, computed in rational arithmetic; z = -4.17 gives 3e-5.
        assert_close(&[sign_test(150, 86), sign_test(86, 150)], &[3.715_936_139_571_442e-5; 2], 1e-12);
    }

    #[test]
    fn holm_agrees_with_a_worked_example() {
        assert_close(&holm(&[0.01, 0.04, 0.03, 0.005]), &[0.03, 0.06, 0.06, 0.02], 1e-12);
        assert_close(&holm(&[0.6, 0.7]), &[1.0, 1.0], 1e-12);
        assert!(holm(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn holm_is_monotone_and_bonferroni_for_the_smallest(ps in proptest::collection::vec(0.0_f64..1.0, 1..12)) {
            let mut both: Vec<(f64, f64)> = ps.iter().copied().zip(holm(&ps)).collect();
            both.sort_by(|x, y| x.0.total_cmp(&y.0));
            prop_assert!((both[0].1 - (both[0].0 * ps.len() as f64).min(1.0)).abs() < 1e-12);
            prop_assert!(both.iter().all(|(p, adjusted)| adjusted >= p && *adjusted <= 1.0));
            prop_assert!(both.windows(2).all(|pair| pair[0].1 <= pair[1].1));
        }

        #[test]
        fn wilson_holds_the_observed_share(n in 1_usize..500, share in 0.0_f64..=1.0) {
            let [low, high] = wilson(share * n as f64, n, 0.95);
            prop_assert!(low <= share + 1e-12 && share <= high + 1e-12);
        }
    }
}
