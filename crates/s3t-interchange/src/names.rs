//! What stands where in the names of an adapter's tensors and modules.

use s3t_backends::ModuleNames;
use s3t_peft::BlockShape;

/// What PEFT puts before every name.
pub(crate) const ROOT: &str = "base_model.model.";

/// A block's shape with the module names of one version of `transformers`.
pub(crate) fn shape_with(shape: &BlockShape, names: &ModuleNames) -> BlockShape {
    let modules = names.linears.iter().map(|(site, module)| (*site, (*module).to_owned())).collect();
    BlockShape { modules, ..shape.clone() }
}

/// The block that a module path leads into, and the path inside it. The part of `blocks` before the first dot, which a
/// model for a task has and a bare one has not, may be missing.
pub(crate) fn split<'a>(path: &'a str, blocks: &str) -> Option<(usize, &'a str)> {
    let bare = blocks.split_once('.').map_or(blocks, |(_, bare)| bare);
    let rest = path.strip_prefix(blocks).or_else(|| path.strip_prefix(bare))?;
    let (index, inside) = rest.strip_prefix('.')?.split_once('.')?;
    Some((index.parse().ok()?, inside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_told_apart_by_their_whole_number() {
        let blocks = "bert.encoder.layer";
        assert_eq!(split("bert.encoder.layer.1.output.dense", blocks), Some((1, "output.dense")));
        assert_eq!(split("bert.encoder.layer.11.output.dense", blocks), Some((11, "output.dense")));
        assert_eq!(split("encoder.layer.2.a", blocks), Some((2, "a")));
        for path in ["bert.encoder.layer.1", "bert.encoder.layers.1.a", "classifier.weight", "bert.encoder.layer.x.a"] {
            assert_eq!(split(path, blocks), None, "{path}");
        }
    }
}
