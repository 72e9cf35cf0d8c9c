//! The fused operations under burn's autodiff: what each keeps for its backward pass.

use std::fmt::Debug;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend};

use super::Fused;

/// The backward passes; a gradient that is handed in may be written over.
pub trait Derivatives: Backend {
    /// Gradients of `x` and `weight`.
    fn rms_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f32,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Gradients of `gate` and `up`.
    fn swiglu_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradient of `x` from `w`, and that of `w` from `x`: of each whose other is given.
    fn matmul_backward(
        x: Option<FloatTensor<Self>>,
        w: Option<FloatTensor<Self>>,
        grad: FloatTensor<Self>,
    ) -> [Option<FloatTensor<Self>>; 2];

    /// Attention, and what its backward pass wants to know of the softmax.
    fn attention_kept(
        q: &FloatTensor<Self>,
        k: &FloatTensor<Self>,
        v: &FloatTensor<Self>,
        bias: &FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Gradients of `q`, `k` and `v`. With weights `p` and `dp = g v'`, that of the scores is `p (dp - sum(p dp))`.
    fn attention_backward(attention: Attended<Self>, grad: FloatTensor<Self>) -> [FloatTensor<Self>; 3];

    /// Log-probabilities, `[n]`, and what the backward pass wants to know of each row, if anything.
    fn log_probs_kept(
        logits: &FloatTensor<Self>,
        ids: &IntTensor<Self>,
    ) -> (FloatTensor<Self>, Option<FloatTensor<Self>>);

    /// Gradient of the logits.
    fn gather_log_probs_backward(
        logits: FloatTensor<Self>,
        kept: Option<FloatTensor<Self>>,
        ids: IntTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// What is left of attention for its backward pass.
#[derive(Clone, Debug)]
pub struct Attended<B: Backend> {
    pub q: FloatTensor<B>,
    pub k: FloatTensor<B>,
    pub v: FloatTensor<B>,
    pub bias: FloatTensor<B>,
    pub out: FloatTensor<B>,
    pub kept: FloatTensor<B>,
}

/// Hands every parent that takes part in the graph its gradient.
fn register<B: Backend, const N: usize>(
    parents: [Option<NodeId>; N],
    gradients: [FloatTensor<B>; N],
    grads: &mut Gradients,
) {
    for (parent, gradient) in parents.into_iter().zip(gradients) {
        if let Some(parent) = parent {
            grads.register::<B>(parent, gradient);
        }
    }
}

#[derive(Debug)]
struct RmsNorm;

impl<B: Derivatives> Backward<B, 2> for RmsNorm {
    type State = (FloatTensor<B>, FloatTensor<B>, f32);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (x, weight, eps) = ops.state;
        let (dx, dweight) = B::rms_norm_backward(x, weight, eps, grad);
        register::<B, 2>(ops.parents.map(|parent| parent.map(|parent| parent.id)), [dx, dweight], grads);
    }
}

#[derive(Debug)]
struct Swiglu;

impl<B: Derivatives> Backward<B, 2> for Swiglu {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (gate, up) = ops.state;
        let (dgate, dup) = B::swiglu_backward(gate, up, grad);
        register::<B, 2>(ops.parents.map(|parent| parent.map(|parent| parent.id)), [dgate, dup], grads);
    }
}

#[derive(Debug)]
struct Rotate;

impl<B: Fused> Backward<B, 1> for Rotate {
    type State = (FloatTensor<B>, FloatTensor<B>, f32);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (cos, sin, sign) = ops.state;
        if let [Some(parent)] = ops.parents {
            grads.register::<B>(parent.id, B::rotate(grad, cos, sin, -sign));
        }
    }
}

#[derive(Debug)]
struct Matmul;

impl<B: Derivatives> Backward<B, 2> for Matmul {
    /// Each factor, if the other one is to have a gradient: frozen weights cost no product, and what they multiply no memory.
    type State = (Option<FloatTensor<B>>, Option<FloatTensor<B>>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (x, w) = ops.state;
        for (parent, gradient) in ops.parents.into_iter().zip(B::matmul_backward(x, w, grad)) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct Attention;

impl<B: Derivatives> Backward<B, 3> for Attention {
    type State = Attended<B>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let gradients = B::attention_backward(ops.state, grad);
        register::<B, 3>(ops.parents.map(|parent| parent.map(|parent| parent.id)), gradients, grads);
    }
}

#[derive(Debug)]
struct GatherLogProbs;

impl<B: Derivatives> Backward<B, 1> for GatherLogProbs {
    type State = (FloatTensor<B>, Option<FloatTensor<B>>, IntTensor<B>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (logits, kept, ids) = ops.state;
        if let [Some(parent)] = ops.parents {
            grads.register::<B>(parent.id, B::gather_log_probs_backward(logits, kept, ids, grad));
        }
    }
}

impl<B: Fused + Derivatives, C: CheckpointStrategy> Fused for Autodiff<B, C> {
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f32) -> FloatTensor<Self> {
        let ((x, x_node), (weight, weight_node)) = (x.into_parts(), weight.into_parts());
        match RmsNorm.prepare::<C>([x_node, weight_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let out = B::rms_norm(x.clone(), weight.clone(), eps);
                prep.finish((x, weight, eps), out)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::rms_norm(x, weight, eps)),
        }
    }

    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let ((gate, gate_node), (up, up_node)) = (gate.into_parts(), up.into_parts());
        match Swiglu.prepare::<C>([gate_node, up_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let out = B::swiglu(gate.clone(), up.clone());
                prep.finish((gate, up), out)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::swiglu(gate, up)),
        }
    }

    fn rotate(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>, sign: f32) -> FloatTensor<Self> {
        let ((x, node), cos, sin) = (x.into_parts(), cos.into_primitive(), sin.into_primitive());
        match Rotate.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let out = B::rotate(x, cos.clone(), sin.clone(), sign);
                prep.finish((cos, sin, sign), out)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::rotate(x, cos, sin, sign)),
        }
    }

    fn matmul(x: FloatTensor<Self>, w: FloatTensor<Self>) -> FloatTensor<Self> {
        let [learns_x, learns_w] = [x.is_tracked(), w.is_tracked()];
        let ((x, x_node), (w, w_node)) = (x.into_parts(), w.into_parts());
        match Matmul.prepare::<C>([x_node, w_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let out = B::matmul(x.clone(), w.clone());
                prep.finish((learns_w.then_some(x), learns_x.then_some(w)), out)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::matmul(x, w)),
        }
    }

    fn attend(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let ((q, q_node), (k, k_node), (v, v_node)) = (q.into_parts(), k.into_parts(), v.into_parts());
        let bias = bias.into_primitive();
        match Attention.prepare::<C>([q_node, k_node, v_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (out, kept) = B::attention_kept(&q, &k, &v, &bias);
                prep.finish(Attended { q, k, v, bias, out: out.clone(), kept }, out)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::attend(q, k, v, bias)),
        }
    }

    fn gather_log_probs(logits: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self> {
        let (logits, node) = logits.into_parts();
        match GatherLogProbs.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (out, kept) = B::log_probs_kept(&logits, &ids);
                prep.finish((logits, kept, ids), out)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::gather_log_probs(logits, ids)),
        }
    }
}
