//! Weights as safetensors bytes, exactly and in a fixed order.

use std::borrow::Cow;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, View};

use super::{Architecture, Model, mapped};

/// A tensor on its way to a file: its numbers are asked for when they are written, so that one at a time is held twice.
pub(super) struct Stored<'a> {
    shape: Vec<usize>,
    values: Box<dyn Fn() -> Vec<f32> + 'a>,
}

impl<'a> Stored<'a> {
    /// A tensor of `shape` whose numbers, row by row, `values` gives.
    pub(super) fn new(shape: Vec<usize>, values: impl Fn() -> Vec<f32> + 'a) -> Self {
        Self { shape, values: Box::new(values) }
    }
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        (self.values)().into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>().into()
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * size_of::<f32>()
    }
}

/// Named `f32` matrices as one safetensors file; equal inputs give equal bytes.
#[must_use]
pub fn to_bytes(named: &[(String, Tensor<2>)]) -> Vec<u8> {
    let views = named.iter().map(|(name, tensor)| (name, Stored::new(tensor.dims().to_vec(), move || host(tensor))));
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

/// The matrices of the safetensors file at `path`, in the order of `names`: as [`from_bytes`], but never with more of the file
/// in memory than a piece.
fn from_file(path: &Path, names: &[String], device: &Device) -> Result<Vec<Tensor<2>>> {
    let found = mapped::tensors(path)?;
    if let Some(extra) = found.keys().find(|name| !names.contains(name)) {
        bail!("unexpected tensor `{extra}`");
    }
    let read = |name: &String| -> Result<Tensor<2>> {
        let located = found.get(name).with_context(|| format!("no tensor `{name}`"))?;
        ensure!(located.is_f32(), "tensor `{name}`: expected F32, found another type");
        let &[rows, columns] = located.shape.as_slice() else {
            bail!("tensor `{name}`: expected two dimensions, found {:?}", located.shape);
        };
        let mut values = Vec::with_capacity(rows * columns);
        located.read(|_, numbers| values.extend_from_slice(numbers))?;
        Ok(Tensor::from_data(TensorData::new(values, [rows, columns]), device))
    };
    names.iter().map(read).collect()
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
        Self::read(architecture.into(), |names| from_bytes(bytes, names, device))
    }

    /// Reads a model of `architecture` from the safetensors file at `path`.
    ///
    /// # Errors
    /// As [`Self::from_bytes`], and when the file cannot be read.
    pub fn from_file(path: &Path, architecture: impl Into<Architecture>, device: &Device) -> Result<Self> {
        Self::read(architecture.into(), |names| from_file(path, names, device))
    }

    fn read(config: Architecture, read: impl Fn(&[String]) -> Result<Vec<Tensor<2>>>) -> Result<Self> {
        let names: Vec<String> = config.shapes(1, 1).into_iter().map(|(name, _)| name).collect();
        let weights = read(&names)?;
        let outputs = weights.last().map_or(0, |head| head.dims()[1]);
        fits(&config.shapes(weights[0].dims()[0], outputs), &weights)?;
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
        fits(&shapes, &weights)?;
        Ok(Self { weights, ..self.clone() })
    }
}

fn fits(shapes: &[(String, [usize; 2])], weights: &[Tensor<2>]) -> Result<()> {
    for ((name, shape), weight) in shapes.iter().zip(weights) {
        ensure!(weight.dims() == *shape, "tensor `{name}`: expected shape {shape:?}, found {:?}", weight.dims());
    }
    Ok(())
}
