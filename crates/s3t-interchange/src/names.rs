//! The parts of the names of an adapter's tensors and modules.

use s3t_models::ModuleNames;
use s3t_peft::BlockShape;

/// The prefix that PEFT puts before every name.
pub(crate) const ROOT: &str = "base_model.model.";

/// A block's shape with the module names of one version of `transformers`.
pub(crate) fn shape_with(shape: &BlockShape, names: &ModuleNames) -> BlockShape {
    let modules = names.linears.iter().map(|(site, module)| (*site, (*module).to_owned())).collect();
    BlockShape { modules, ..shape.clone() }
}

/// The block that a module path leads into, and the path inside it. A path that begins inside the model, as in an adapter of a
/// bare model, leads nowhere: PEFT finds no place for it in a model with a head.
pub(crate) fn split<'a>(path: &'a str, blocks: &str) -> Option<(usize, &'a str)> {
    let (index, inside) = path.strip_prefix(blocks)?.strip_prefix('.')?.split_once('.')?;
    // As Python writes it: `01` and `+1` are other names.
    let number: usize = index.parse().ok()?;
    (number.to_string() == index).then_some((number, inside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_told_apart_by_their_whole_number() {
        let blocks = "bert.encoder.layer";
        assert_eq!(split("bert.encoder.layer.1.output.dense", blocks), Some((1, "output.dense")));
        assert_eq!(split("bert.encoder.layer.11.output.dense", blocks), Some((11, "output.dense")));
        for path in [
            "encoder.layer.2.a",
            "bert.encoder.layer.1",
            "bert.encoder.layers.1.a",
            "classifier.weight",
            "bert.encoder.layer.x.a",
            "bert.encoder.layer.01.a",
            "bert.encoder.layer.+1.a",
        ] {
            assert_eq!(split(path, blocks), None, "{path}");
        }
    }
}
