//! Tensors of safetensors files: which there are, and their numbers, a little at a time.
//!
//! Files are mapped into memory for as long as a piece of a tensor is read, so that what was read takes no room twice.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::tensor::{Dtype, SafeTensors};

/// Bytes of a file that are mapped at once, about.
const PIECE: usize = 16 << 20;

/// Where a tensor lies.
#[derive(Clone, Debug)]
pub(super) struct Located {
    file: PathBuf,
    dtype: Dtype,
    pub(super) shape: Vec<usize>,
    start: usize,
    end: usize,
}

/// All tensors of the file at `path` by name.
pub(super) fn tensors(path: &Path) -> Result<BTreeMap<String, Located>> {
    let map = mapped(path)?;
    let (header, metadata) = SafeTensors::read_metadata(&map)
        .with_context(|| format!("`{}` is not a whole safetensors file", path.display()))?;
    // The header's length stands in the eight bytes before it.
    let offset = header + size_of::<u64>();
    let located = |(name, info): (String, &safetensors::tensor::TensorInfo)| {
        let (start, end) = info.data_offsets;
        let (dtype, shape) = (info.dtype, info.shape.clone());
        (name, Located { file: path.to_owned(), dtype, shape, start: offset + start, end: offset + end })
    };
    Ok(metadata.tensors().into_iter().map(located).collect())
}

#[allow(unsafe_code, reason = "a mapping is only sound while nobody writes to the file; safetensors are written once")]
fn mapped(path: &Path) -> Result<Mmap> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot open `{shown}`"))?;
    // SAFETY: the map is read only and is dropped before the reader returns; a checkpoint's files are replaced, not
    // written to. Should somebody truncate one meanwhile, the system stops the process: no memory of ours is touched.
    unsafe { Mmap::map(&file) }.with_context(|| format!("cannot map `{shown}`"))
}

impl Located {
    /// The file.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Whether its numbers are `f32`.
    pub(super) fn is_f32(&self) -> bool {
        self.dtype == Dtype::F32
    }

    /// Bytes in the file.
    pub(super) const fn bytes(&self) -> usize {
        self.end - self.start
    }

    /// Rows and columns, a vector as one row.
    pub(super) fn rows_and_columns(&self) -> [usize; 2] {
        match self.shape.as_slice() {
            [] => [1, 1],
            [columns] => [1, *columns],
            [rows, rest @ ..] => [*rows, rest.iter().product()],
        }
    }

    /// Calls `take` with the number of the first row and the numbers of a few rows, until all were given.
    pub(super) fn read(&self, mut take: impl FnMut(usize, &[f32])) -> Result<()> {
        let width = match self.dtype {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::BF16 => 2,
            other => bail!("expected numbers as F32, F16 or BF16, found {other:?}"),
        };
        let [rows, columns] = self.rows_and_columns();
        let at_once = (PIECE / (columns * width).max(1)).max(1);
        let mut numbers = Vec::new();
        for first in (0..rows).step_by(at_once) {
            let last = rows.min(first + at_once);
            let map = mapped(&self.file)?;
            let range = self.start + first * columns * width..self.start + last * columns * width;
            let bytes = map.get(range).with_context(|| format!("`{}` was cut off meanwhile", self.file.display()))?;
            // A few rows at a time, so that the widened numbers stay in the processor's caches.
            for (i, rows) in bytes.chunks((16 * columns * width).max(1)).enumerate() {
                numbers.clear();
                widen(rows, self.dtype, &mut numbers);
                take(first + 16 * i, &numbers);
            }
        }
        Ok(())
    }

    /// Whether two tensors have the same numbers.
    pub(super) fn equals(&self, other: &Self) -> Result<bool> {
        if (self.dtype, &self.shape) != (other.dtype, &other.shape) {
            return Ok(false);
        }
        let (a, b) = (mapped(&self.file)?, mapped(&other.file)?);
        Ok(a.get(self.start..self.end) == b.get(other.start..other.end))
    }
}

fn widen(bytes: &[u8], dtype: Dtype, out: &mut Vec<f32>) {
    match dtype {
        Dtype::F16 => out.extend(bytes.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).to_f32())),
        Dtype::BF16 => out.extend(bytes.as_chunks().0.iter().map(|&b| bf16::from_le_bytes(b).to_f32())),
        _ => out.extend(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b))),
    }
}
