//! Weights as safetensors bytes, exactly and in a fixed order.

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::{Architecture, Model};

/// Named `f32` matrices as one safetensors file; equal inputs give equal bytes.
#[must_use]
pub fn to_bytes(named: &[(String, Tensor<2>)]) -> Vec<u8> {
    let raw: Vec<(String, [usize; 2], Vec<u8>)> = named
        .iter()
        .map(|(name, tensor)| {
            let values = host(tensor);
            (name.clone(), tensor.dims(), values.iter().flat_map(|x| x.to_le_bytes()).collect())
        })
        .collect();
    let views = raw.iter().map(|(name, shape, bytes)| {
        (name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).expect("the shape counts the bytes"))
    });
    safetensors::serialize(views, None).expect("float matrices serialise")
}

/// The matrices of a safetensors file, in the order of `names`.
///
/// # Errors
/// When the bytes are no safetensors file, a name is missing, left over or not a two-dimensional `f32` tensor.
pub fn from_bytes(bytes: &[u8], names: &[String], device: &Device) -> Result<Vec<Tensor<2>>> {
    let file = SafeTensors::deserialize(bytes).context("not a safetensors file")?;
    if let Some(extra) = file.names().into_iter().find(|name| !names.iter().any(|known| known == name)) {
        bail!("unexpected tensor `{extra}`");
    }
    names.iter().map(|name| read(&file, name, device)).collect()
}

fn read(file: &SafeTensors, name: &str, device: &Device) -> Result<Tensor<2>> {
    let view = file.tensor(name).with_context(|| format!("no tensor `{name}`"))?;
    ensure!(view.dtype() == Dtype::F32, "tensor `{name}`: expected F32, found {:?}", view.dtype());
    let &[rows, columns] = view.shape() else {
        bail!("tensor `{name}`: expected two dimensions, found {:?}", view.shape());
    };
    let values: Vec<f32> = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    Ok(Tensor::from_data(TensorData::new(values, [rows, columns]), device))
}

/// A tensor's numbers, row by row.
///
/// # Panics
/// When the device fails: there is no result to go on with.
#[must_use]
pub fn host<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.clone().into_data().convert::<f32>().try_to_vec().expect("floats convert to f32")
}

impl Model {
    /// The weights as safetensors bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(&self.names().into_iter().zip(self.weights.iter().cloned()).collect::<Vec<_>>())
    }

    /// Reads a model of `architecture` from safetensors bytes.
    ///
    /// # Errors
    /// When the tensors are not those of `architecture`: each disagreement is named.
    pub fn from_bytes(bytes: &[u8], architecture: impl Into<Architecture>, device: &Device) -> Result<Self> {
        let config = architecture.into();
        let names: Vec<String> = config.shapes(1, 1).into_iter().map(|(name, _)| name).collect();
        let weights = from_bytes(bytes, &names, device)?;
        let outputs = weights.last().map_or(0, |head| head.dims()[1]);
        for ((name, shape), weight) in config.shapes(weights[0].dims()[0], outputs).iter().zip(&weights) {
            ensure!(weight.dims() == *shape, "tensor `{name}`: expected shape {shape:?}, found {:?}", weight.dims());
        }
        Ok(Self { config, weights, adapter: None })
    }

    /// This model with the weights that [`Self::to_bytes`] of one like it gave.
    ///
    /// # Errors
    /// When the tensors are not those that are trained here: each disagreement is named.
    pub fn with_weights(&self, bytes: &[u8]) -> Result<Self> {
        let shapes = self.shapes();
        let names: Vec<String> = shapes.iter().map(|(name, _)| name.clone()).collect();
        let weights = from_bytes(bytes, &names, &self.device())?;
        for ((name, shape), weight) in shapes.iter().zip(&weights) {
            ensure!(weight.dims() == *shape, "tensor `{name}`: expected shape {shape:?}, found {:?}", weight.dims());
        }
        Ok(Self { weights, ..self.clone() })
    }
}
