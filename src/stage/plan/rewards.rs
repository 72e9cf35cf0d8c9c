//! The nodes of reward models, those of variants and the judge's, and of what some of them learn from.

use super::super::node::Stage;
use super::super::{reward, spans, words};
use super::{Annotations, Planner, Reference, Round, in_rounds};
use crate::data::Format;
use crate::labels::spans::Category;
use crate::recipe::Variant;
use crate::reward::{Kind, Spans};
use crate::units::{NonNegative, Positive};
use crate::{judge, llm};

impl Planner<'_> {
    /// The judge's own reward model.
    pub(super) fn judge(&mut self, reference: Reference, budget: usize) -> Option<usize> {
        let judge::RewardModel { kind, held_out } = self.recipe.judge.reward_model.clone()?;
        let at = format!("budget={budget}/seed={}", reference.seed);
        let label = format!("reward/judge/{at}");
        let all = self.annotations(reference, Round { policy: reference.policy, budget, skip: 0, at });
        Some(self.reward(&kind, &[all], label, held_out, &[]))
    }

    /// A reward model that learns from `rounds` of annotation, and from `more` labels of theirs.
    pub(super) fn reward(
        &mut self,
        kind: &Kind,
        rounds: &[Annotations],
        label: String,
        held_out: bool,
        more: &[(String, usize)],
    ) -> usize {
        let reference = rounds[0].reference;
        let config = reward::Config {
            reward: self.recipe.reward.clone(),
            kind: kind.clone(),
            seed: reference.seed,
            setting: self.setting.clone(),
            held_out,
        };
        let mut from =
            vec![("reference".to_owned(), reference.policy), ("reference_responses".to_owned(), reference.responses)];
        from.extend(in_rounds("preferences", rounds.iter().map(|round| round.preferences)));
        from.extend(in_rounds("labels", rounds.iter().map(|round| round.labels)));
        from.extend(more.iter().cloned());
        let from: Vec<(&str, usize)> = from.iter().map(|(role, node)| (role.as_str(), *node)).collect();
        self.push(Stage::Reward, reward::VERSION, label, &config, &from)
    }

    /// A variant's reward models: one, or one for each category of errors.
    pub(super) fn rewards(&mut self, variant: &Variant, rounds: &[Annotations], at: &str) -> Vec<(String, usize)> {
        let label = format!("reward/{at}");
        let Some(kind) = &variant.reward else { return Vec::new() };
        match kind {
            Kind::Sequence(_) | Kind::Token(_) => {
                vec![("reward".to_owned(), self.reward(kind, rounds, label, false, &[]))]
            }
            Kind::Tppo(_) => {
                let words: Vec<usize> = rounds.iter().map(|round| self.words(round)).collect();
                let words = in_rounds("words", words.into_iter());
                vec![("reward".to_owned(), self.reward(kind, rounds, label, false, &words))]
            }
            Kind::Spans(_) => {
                let categories = self.recipe.labels.spans.as_ref().map(|spans| spans.categories.clone());
                let model = |category: Category| {
                    let spans: Vec<usize> = rounds.iter().map(|round| self.spans(round, &category)).collect();
                    let spans = in_rounds("spans", spans.into_iter());
                    let label = format!("reward/{}/{at}", category.name);
                    // What a span is paid is the sum's matter: a model by itself counts errors.
                    let kind = Kind::Spans(Spans { clean: NonNegative::try_from(0.0).expect("in range") });
                    (format!("reward.{}", category.name), self.reward(&kind, rounds, label, false, &spans))
                };
                categories.into_iter().flatten().map(model).collect()
            }
        }
    }

    fn words(&mut self, round: &Annotations) -> usize {
        let llm = self.recipe.labels.llm_words.as_ref().map(llm::Words::deciding);
        let config = words::Config { llm, template: self.templates.words.clone(), setting: self.setting.clone() };
        let from = [("preferences", round.preferences)];
        self.push(Stage::Words, words::VERSION, format!("words/{}", round.at), &config, &from)
    }

    fn spans(&mut self, round: &Annotations, category: &Category) -> usize {
        let category = Category { weight: Positive::try_from(1.0).expect("above zero"), ..category.clone() };
        let label = format!("spans/{}/{}", category.name, round.at);
        let (budget, seed) = (round.budget, round.reference.seed);
        let config = spans::Config { category, budget, seed, setting: self.setting.clone() };
        let is_world = self.recipe.dataset.format == Format::World;
        let from = if is_world { vec![("preferences", round.preferences)] } else { vec![] };
        self.push(Stage::Spans, spans::VERSION, label, &config, &from)
    }
}
