//! The same operations composed of burn's own, for devices without kernels; shapes as in the parent's functions.

use burn::tensor::activation::{log_softmax, silu, softmax};
use burn::tensor::{Int, Tensor};

use super::Adam;

pub fn rms_norm(x: Tensor<2>, weight: Tensor<2>, eps: f64) -> Tensor<2> {
    let scale = (x.clone().square().mean_dim(1) + eps).sqrt().recip();
    x * scale * weight
}

pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    silu(gate) * up
}

pub fn rotate(x: Tensor<3>, cos: Tensor<3>, sin: Tensor<3>) -> Tensor<3> {
    let half = x.dims()[2] / 2;
    let (a, b) = (x.clone().narrow(2, 0, half), x.clone().narrow(2, half, half));
    x * cos + Tensor::cat(vec![b, a], 2) * sin
}

pub fn attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, bias: Tensor<4>) -> Tensor<2> {
    let [b, heads, t, d] = q.dims();
    let repeated = |x: Tensor<4>| {
        let [_, kv_heads, columns, _] = x.dims();
        let times = heads / kv_heads;
        x.reshape([b, kv_heads, 1, columns, d]).expand([b, kv_heads, times, columns, d]).reshape([b, heads, columns, d])
    };
    let p = softmax(q.matmul(repeated(k).swap_dims(2, 3)) + bias, 3);
    p.matmul(repeated(v)).swap_dims(1, 2).reshape([b * t, heads * d])
}

pub fn gather_log_probs(logits: Tensor<2>, ids: Tensor<1, Int>) -> Tensor<1> {
    let n = ids.dims()[0];
    log_softmax(logits, 1).gather(1, ids.reshape([n, 1])).reshape([n])
}

pub fn adamw(w: Tensor<2>, g: Tensor<2>, m: Tensor<2>, v: Tensor<2>, adam: Adam) -> [Tensor<2>; 3] {
    let g = g * adam.clip;
    let m = m * adam.beta1 + g.clone() * (1.0 - adam.beta1);
    let v = v * adam.beta2 + g.square() * (1.0 - adam.beta2);
    let scaled = m.clone() * (adam.rate / adam.correction1) / ((v.clone() / adam.correction2).sqrt() + adam.epsilon);
    [w * adam.keep - scaled, m, v]
}
