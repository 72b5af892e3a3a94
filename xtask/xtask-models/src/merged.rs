//! Merging: a model in place of several members whose adapters are on the same blocks: the mean of their low-rank updates and of their heads.

use s3t::core::Lineage;
use s3t::core::tensors::{HostTensor, StageTensors};
use serde_json::json;

/// The mean of these members of LoRA: one model with as many times the rank, whose product is the mean of their products; and the
/// lineage by which it is read. `None` for other methods, or if the members have other tensors than each other.
pub fn merged(lineage: &Lineage, members: &[StageTensors]) -> Option<(Lineage, StageTensors)> {
    let (peft, count) = (&lineage.recipe.peft, members.len());
    if peft["type"] != "lora" {
        return None;
    }
    let mut wider = lineage.clone();
    wider.recipe.peft["rank"] = json!(peft["rank"].as_u64()? * count as u64);
    wider.recipe.peft["alpha"] = json!(peft["alpha"].as_f64()? * count as f64);
    let mut tensors = StageTensors::default();
    for (block, parameters) in &members.first()?.blocks {
        for name in parameters.keys() {
            let of_members = members.iter().map(|member| member.blocks.get(block)?.get(name));
            let of_members = of_members.collect::<Option<Vec<_>>>()?;
            let joined = if name.ends_with("lora_A.weight") { stacked(&of_members) } else { side_by_side(&of_members) };
            tensors.insert(*block, name, joined);
        }
    }
    for name in members.first()?.head.as_ref()?.keys() {
        let of_members = members.iter().map(|member| member.head.as_ref()?.get(name)).collect::<Option<Vec<_>>>()?;
        tensors.insert_head(name, mean(&of_members));
    }
    Some((wider, tensors))
}

/// The factors `[rank, inputs]` of members, one below the other.
fn stacked(members: &[&HostTensor]) -> HostTensor {
    let ranks = members.iter().map(|member| member.shape[0]).sum();
    HostTensor {
        shape: vec![ranks, members[0].shape[1]],
        values: members.iter().flat_map(|member| member.values.iter().copied()).collect(),
    }
}

/// The factors `[outputs, rank]` of members side by side, each with its share of the mean.
fn side_by_side(members: &[&HostTensor]) -> HostTensor {
    let outputs = members[0].shape[0];
    let ranks = members.iter().map(|member| member.shape[1]).sum();
    let row = |row: usize| {
        members.iter().flat_map(move |member| {
            let rank = member.shape[1];
            member.values[row * rank..(row + 1) * rank].iter().map(|value| value / members.len() as f32)
        })
    };
    HostTensor { shape: vec![outputs, ranks], values: (0..outputs).flat_map(row).collect() }
}

fn mean(members: &[&HostTensor]) -> HostTensor {
    let of_value = |index: usize| members.iter().map(|member| member.values[index]).sum::<f32>() / members.len() as f32;
    HostTensor { shape: members[0].shape.clone(), values: (0..members[0].values.len()).map(of_value).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_product_of_the_merged_factors_is_the_mean_of_the_products() {
        let tensor = |shape: [usize; 2], values: &[f32]| HostTensor { shape: shape.into(), values: values.into() };
        // [1, 2]^T [3, 4] and [5, 6]^T [7, 8], each a member of rank 1.
        let (down, up) = (
            [tensor([1, 2], &[3.0, 4.0]), tensor([1, 2], &[7.0, 8.0])],
            [tensor([2, 1], &[1.0, 2.0]), tensor([2, 1], &[5.0, 6.0])],
        );
        let (down, up) = (stacked(&[&down[0], &down[1]]), side_by_side(&[&up[0], &up[1]]));
        assert_eq!((down.shape.as_slice(), up.shape.as_slice()), (&[2, 2][..], &[2, 2][..]));
        let element = |row: usize, column: usize| {
            (0..2).map(|k| up.values[2 * row + k] * down.values[2 * k + column]).sum::<f32>()
        };
        let product = [element(0, 0), element(0, 1), element(1, 0), element(1, 1)];
        assert_eq!(product, [19.0, 22.0, 24.0, 28.0]);
        assert_eq!(mean(&[&down, &up]).values, [1.75, 3.25, 4.0, 5.5]);
    }
}
