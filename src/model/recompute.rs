//! Gradient checkpointing [CHECKPOINTING]: of a pass through the layers only what each of them was given is kept, and the
//! backward pass computes a layer again when its turn comes. It costs one more forward pass.
//!
//! burn's own strategy computes again what is cheap between products; here whole layers are, since what their fused
//! operations keep is most of the memory.

use std::cell::RefCell;

use burn::tensor::Tensor;

use super::Model;
use super::layer::Views;

/// What is kept of a pass through the layers.
pub(super) struct Pass {
    model: Model,
    views: Views,
    /// What the first layer was given, with its graph.
    embedded: Tensor<2>,
    /// What each layer was given.
    inputs: Vec<Tensor<2>>,
    /// What the last one made: a leaf of the graph of all that follows.
    made: Tensor<2>,
}

thread_local! {
    /// Passes of tracked models on this thread, while they are to be kept.
    static PASSES: RefCell<Option<Vec<Pass>>> = const { RefCell::new(None) };
}

/// Does `work`; passes of tracked models in it record no graph of their layers and are handed out, if `on`.
pub(super) fn recorded<T>(on: bool, work: impl FnOnce() -> T) -> (T, Vec<Pass>) {
    PASSES.set(on.then(Vec::new));
    let done = work();
    (done, PASSES.take().unwrap_or_default())
}

/// Whether passes of `model` are recorded here.
pub(super) fn is_recording(model: &Model) -> bool {
    PASSES.with_borrow(Option::is_some) && model.weights.iter().any(Tensor::is_require_grad)
}

/// The layers' result for what the first one is given, `[n, H]`.
pub(super) fn forward(model: &Model, views: Views, embedded: Tensor<2>) -> Tensor<2> {
    let (plain, parts) = (model.untracked(), model.parts());
    let (mut x, mut inputs) = (embedded.clone().inner(), Vec::new());
    for layer in plain.layers(&parts) {
        inputs.push(x.clone());
        x = layer.run(x, views.of(&model.config, layer.index), None);
    }
    let made = x.autodiff().require_grad();
    let pass = Pass { model: model.clone(), views, embedded, inputs, made: made.clone() };
    PASSES.with_borrow_mut(|passes| passes.get_or_insert_default().push(pass));
    made
}

impl Pass {
    /// Goes back through the layers from the gradient of what the last one made, in `gradients`; adds those of `weights`, the
    /// model's, to `sums`.
    pub(super) fn backward(
        self,
        gradients: &mut burn::tensor::Gradients,
        weights: &[Tensor<2>],
        sums: &mut [Option<Tensor<2>>],
    ) {
        let Self { model, views, embedded, mut inputs, made } = self;
        let Some(mut gradient) = made.grad_remove(gradients) else { return };
        let parts = model.parts();
        let layers: Vec<_> = model.layers(&parts).collect();
        for layer in layers.into_iter().rev() {
            let Some(input) = inputs.pop() else { return };
            let input = input.autodiff().require_grad();
            let made = layer.run(input.clone(), views.of(&model.config, layer.index), None);
            let mut gradients = (made * gradient.autodiff()).sum().backward();
            gradient = input.grad_remove(&mut gradients).expect("a layer's result depends on what it is given");
            add(&mut gradients, weights, sums);
        }
        if embedded.is_autodiff() {
            add(&mut (embedded * gradient.autodiff()).sum().backward(), weights, sums);
        }
    }
}

/// Adds what `gradients` has of `weights`.
pub(super) fn add(gradients: &mut burn::tensor::Gradients, weights: &[Tensor<2>], sums: &mut [Option<Tensor<2>>]) {
    for (sum, weight) in sums.iter_mut().zip(weights) {
        if let Some(more) = weight.grad_remove(gradients) {
            *sum = Some(match sum.take() {
                Some(sum) => sum + more,
                None => more,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tolerance};

    use super::*;
    use crate::compute::Crew;
    use crate::model::adapter::Lora;
    use crate::model::architecture::Role;
    use crate::model::gradient::{Outcome, Share, gradients};
    use crate::model::{Batch, Pair};

    fn outcome(model: &Model, recomputes: bool) -> Outcome<0> {
        let rows = [(vec![3, 1, 4], vec![1, 5, 9, 2]), (vec![6, 5], vec![3, 5]), (vec![8], vec![9, 7, 9])];
        let crew = Crew::new(2).recomputing(recomputes);
        gradients(model, &rows, &crew, |model, (prompt, response)| {
            let model = model.noisy(response.len() as u64);
            let batch = Batch::new(&[Pair { prompt, response }], 0, &model.device());
            let log_probs = model.log_probs(&batch, 1.0);
            // A second pass in the same graph.
            let values = model.at_response(&batch).square().mean();
            Share { loss: log_probs.sum() + values, sums: [] }
        })
    }

    #[test]
    fn layers_that_are_computed_again_have_the_gradients_of_layers_that_were_kept() {
        let table = serde_json::json!({
            "hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 1,
            "intermediate_size": 12,
        });
        let model = Model::init(&serde_json::from_value(table).unwrap(), 20, 20, 0, &Device::flex());
        let modules = vec![vec![Role::Query], vec![Role::Down]];
        let mut adapted = model.adapt(&Lora { modules, rank: 2, scale: 0.5, dropout: 0.25 }, 1);
        // Of fresh adapters the second factor is zero, and with it the gradient of the first.
        adapted.weights = adapted.weights.iter().map(|w| w.clone() + 0.1).collect();
        for model in [model, adapted] {
            let (kept, again) = (outcome(&model, false), outcome(&model, true));
            assert_eq!(kept.loss.to_bits(), again.loss.to_bits());
            assert_eq!(kept.gradients.len(), again.gradients.len());
            for (kept, again) in kept.gradients.into_iter().zip(again.gradients) {
                assert!(kept.clone().abs().max().into_scalar::<f32>() > 0.0, "a gradient to compare");
                again.into_data().assert_approx_eq::<f32>(&kept.into_data(), Tolerance::rel_abs(1e-5, 1e-6));
            }
        }
    }
}
