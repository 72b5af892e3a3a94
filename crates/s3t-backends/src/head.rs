//! The head of a stage: what turns the pooled output into the outputs of the task.

use burn::tensor::{Tensor, activation};
use s3t_core::tensors::head_name;
use s3t_peft::{Init, Linear, NamedTensors, ParameterSpec, PeftError};

const WEIGHT: &str = "weight";
const BIAS: &str = "bias";
const DENSE_WEIGHT: &str = "dense.weight";
const DENSE_BIAS: &str = "dense.bias";

/// The standard deviation of a head's starting weights, as in BERT and ViT.
const STD: f64 = 0.02;

/// What a model's classification head looks like, so that a stage's head is one that Hugging Face knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLayout {
    /// The module of a layer with tanh before the output layer; `None` if there is none.
    pub dense: Option<&'static str>,
    /// The module of the output layer.
    pub output: &'static str,
    /// Whether the output layer has a bias.
    pub bias: bool,
}

impl HeadLayout {
    /// The parameters of a head with this many outputs on a model of this width: `weight` `[outputs, hidden]`, and as the
    /// layout says `bias` `[outputs]`, `dense.weight` `[hidden, hidden]`, `dense.bias` `[hidden]`.
    /// None for 0 outputs.
    pub fn parameters(&self, outputs: usize, hidden: usize) -> Vec<ParameterSpec> {
        if outputs == 0 {
            return Vec::new();
        }
        let weight = |name, rows| ParameterSpec::new(name, [rows, hidden], Init::Normal { std: STD });
        let bias = |name, rows| ParameterSpec::new(name, [rows], Init::Zeros);
        let mut specs = vec![weight(WEIGHT, outputs)];
        if self.bias {
            specs.push(bias(BIAS, outputs));
        }
        if self.dense.is_some() {
            specs.extend([weight(DENSE_WEIGHT, hidden), bias(DENSE_BIAS, hidden)]);
        }
        specs
    }

    /// The module that holds the whole head: of two layers their parent.
    pub fn module(&self) -> &'static str {
        self.output.split('.').next().unwrap_or(self.output)
    }

    /// What Hugging Face calls each parameter, under the model's root, in the order of [`parameters`](Self::parameters):
    /// `(ours, theirs)`.
    pub fn names(&self) -> Vec<(&'static str, String)> {
        let mut names = vec![(WEIGHT, format!("{}.weight", self.output))];
        if self.bias {
            names.push((BIAS, format!("{}.bias", self.output)));
        }
        if let Some(dense) = self.dense {
            names.extend([(DENSE_WEIGHT, format!("{dense}.weight")), (DENSE_BIAS, format!("{dense}.bias"))]);
        }
        names
    }
}

/// The number of outputs of a head; 0 if it has no output layer.
pub fn head_outputs(head: &NamedTensors) -> usize {
    head.get(WEIGHT).and_then(|weight| weight.shape.first().copied()).unwrap_or(0)
}

/// A head, ready to run.
#[derive(Debug)]
pub struct Head {
    dense: Option<Linear>,
    output: Linear,
}

impl Head {
    /// A head from flat tensors by the names of [`HeadLayout::parameters`].
    ///
    /// # Errors
    ///
    /// [`PeftError::MissingParameter`] or [`PeftError::WrongShape`].
    pub fn bind(
        layout: HeadLayout,
        outputs: usize,
        hidden: usize,
        tensors: &NamedTensors<Tensor<1>>,
    ) -> Result<Self, PeftError> {
        let get = |name: &str, shape: &[usize]| match tensors.get(name) {
            Some(tensor) if tensor.dims()[0] == shape.iter().product::<usize>() => Ok(tensor.clone()),
            Some(tensor) => Err(PeftError::WrongShape {
                name: head_name(name),
                found: tensor.dims().to_vec(),
                expected: shape.to_vec(),
            }),
            None => Err(PeftError::MissingParameter {
                name: head_name(name),
                present: tensors.keys().map(|name| head_name(name)).collect(),
            }),
        };
        let weight = |name: &str, rows: usize| -> Result<Tensor<2>, PeftError> {
            Ok(get(name, &[rows, hidden])?.reshape([rows, hidden]).transpose())
        };
        let dense = match layout.dense {
            Some(_) => Some(Linear { weight: weight(DENSE_WEIGHT, hidden)?, bias: Some(get(DENSE_BIAS, &[hidden])?) }),
            None => None,
        };
        let bias = if layout.bias { Some(get(BIAS, &[outputs])?) } else { None };
        Ok(Self { dense, output: Linear { weight: weight(WEIGHT, outputs)?, bias } })
    }

    /// `[batch, hidden]` to `[batch, outputs]`.
    pub fn forward(&self, pooled: Tensor<2>) -> Tensor<2> {
        let x = match &self.dense {
            Some(dense) => activation::tanh(dense.forward(pooled)),
            None => pooled,
        };
        self.output.forward(x)
    }
}
