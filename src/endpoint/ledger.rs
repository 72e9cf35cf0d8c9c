//! What asking costs, and where it ends.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::{Budget, Conduct, Prices};

/// What asking an endpoint took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Requests sent, retries included.
    pub requests: u64,
    /// Of those, how many were sent again after a failure.
    pub retries: u64,
    /// Answers that were on the disk already.
    pub cached: u64,
    /// Answers in which no verdict could be read; counted by who reads them.
    pub unparsable: u64,
    /// Tokens of prompts sent, as the endpoint counts them; where it does not, a quarter of the bytes.
    pub prompt_tokens: u64,
    /// Tokens of answers, likewise.
    pub completion_tokens: u64,
    /// Money by the price table; none without one.
    pub money: Option<f64>,
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.retries += other.retries;
        self.cached += other.cached;
        self.unparsable += other.unparsable;
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.money = match (self.money, other.money) {
            (None, None) => None,
            (ours, theirs) => Some(ours.unwrap_or(0.0) + theirs.unwrap_or(0.0)),
        };
    }
}

/// Tokens of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Tokens {
    pub(super) prompt: u64,
    pub(super) completion: u64,
}

impl Tokens {
    /// What they cost; nothing without prices.
    pub(super) fn money(self, prices: Option<Prices>) -> f64 {
        let Some(prices) = prices else { return 0.0 };
        let of = |tokens: u64, price: f64| tokens as f64 * price / 1e6;
        of(self.prompt, prices.prompt_per_million.get()) + of(self.completion, prices.completion_per_million.get())
    }
}

/// What one process has spent and promised through one `endpoint` table.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Account>);

#[derive(Debug, Default)]
struct Account {
    requests: u64,
    tokens: u64,
    money: f64,
    promised_tokens: u64,
    promised_money: f64,
}

/// What a request may take at most, held back until it is known.
#[derive(Debug)]
pub(super) struct Promise {
    tokens: u64,
    money: f64,
}

impl Ledger {
    /// The one ledger of this process under `name`.
    pub(super) fn named(name: &str) -> Arc<Self> {
        static LEDGERS: Mutex<BTreeMap<String, Arc<Ledger>>> = Mutex::new(BTreeMap::new());
        let mut ledgers = LEDGERS.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(ledgers.entry(name.to_owned()).or_default())
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request that is about to be sent.
    ///
    /// # Errors
    /// A sentence, when the budget has none left.
    pub(super) fn send(&self, budget: &Budget) -> Result<(), String> {
        let mut account = self.account();
        if let Some(most) = budget.requests.filter(|&most| account.requests >= most) {
            return Err(format!("its budget of {most} requests is spent"));
        }
        account.requests += 1;
        Ok(())
    }

    /// Holds back what a request may take at most.
    ///
    /// # Errors
    /// A sentence, when the budget may not have that much left.
    pub(super) fn promise(&self, conduct: &Conduct, most: Tokens) -> Result<Promise, String> {
        let mut account = self.account();
        let promise = Promise { tokens: most.prompt + most.completion, money: most.money(conduct.prices) };
        let (tokens, money) = (account.tokens + account.promised_tokens, account.money + account.promised_money);
        if let Some(limit) = conduct.budget.tokens.filter(|&limit| tokens + promise.tokens > limit) {
            return Err(format!(
                "its budget of {limit} tokens may not be enough: {tokens} are spent or promised, and the next request may take {}",
                promise.tokens
            ));
        }
        let limit = conduct.budget.money.map(f64::from);
        if let Some(limit) = limit.filter(|&limit| money + promise.money > limit) {
            return Err(format!(
                "its budget of {limit} in money may not be enough: {money:.4} are spent or promised, and the next request may cost \
                 {:.4}",
                promise.money
            ));
        }
        account.promised_tokens += promise.tokens;
        account.promised_money += promise.money;
        Ok(promise)
    }

    /// Replaces a promise by what was taken.
    pub(super) fn settle(&self, promise: &Promise, taken: Tokens, prices: Option<Prices>) {
        let mut account = self.account();
        account.promised_tokens -= promise.tokens;
        account.promised_money -= promise.money;
        account.tokens += taken.prompt + taken.completion;
        account.money += taken.money(prices);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::NonNegative;

    fn conduct(budget: Budget) -> Conduct {
        let price = |value| NonNegative::try_from(value).unwrap();
        let prices = Prices { prompt_per_million: price(1e6), completion_per_million: price(2e6) };
        Conduct { budget, prices: Some(prices), ..Conduct::default() }
    }

    #[test]
    fn nothing_is_sent_that_could_exceed_the_budget() {
        let conduct = conduct(Budget { requests: Some(2), tokens: Some(20), ..Budget::default() });
        let ledger = Ledger::default();
        let most = Tokens { prompt: 4, completion: 8 };
        let promise = ledger.promise(&conduct, most).unwrap();
        assert!(ledger.promise(&conduct, most).unwrap_err().contains("12 are spent or promised"));
        ledger.settle(&promise, Tokens { prompt: 4, completion: 1 }, conduct.prices);
        assert!(ledger.promise(&conduct, most).is_ok());
        assert!([ledger.send(&conduct.budget), ledger.send(&conduct.budget)].iter().all(Result::is_ok));
        assert_eq!(ledger.send(&conduct.budget), Err("its budget of 2 requests is spent".to_owned()));
    }

    #[test]
    fn money_follows_the_price_table() {
        let most = NonNegative::try_from(40.0).unwrap();
        let conduct = conduct(Budget { money: Some(most), ..Budget::default() });
        let ledger = Ledger::default();
        // 4 x 1 + 8 x 2 = 20 each.
        let most = Tokens { prompt: 4, completion: 8 };
        assert!([ledger.promise(&conduct, most), ledger.promise(&conduct, most)].iter().all(Result::is_ok));
        assert!(ledger.promise(&conduct, most).is_err());
    }

    #[test]
    fn one_name_has_one_ledger() {
        let budget = Budget { requests: Some(1), ..Budget::default() };
        assert!(Ledger::named("one").send(&budget).is_ok());
        assert!(Ledger::named("one").send(&budget).is_err());
        assert!(Ledger::named("other").send(&budget).is_ok());
    }
}
