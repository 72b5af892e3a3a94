//! The head of a stage, which turns the pooled row into the outputs of the task.

use burn::tensor::Tensor;
use s3t_core::tensors::head_name;
use s3t_kernels::{Activation, activate};
use s3t_peft::{Init, Linear, NamedTensors, ParameterSpec, PeftError, Weight};

const WEIGHT: &str = "weight";
const BIAS: &str = "bias";
const DENSE_WEIGHT: &str = "dense.weight";
const DENSE_BIAS: &str = "dense.bias";

/// The standard deviation of a head's starting weights, as in BERT and ViT.
const STD: f64 = 0.02;

/// The function behind the first of a head's two layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadActivation {
    /// The hyperbolic tangent.
    Tanh,
    /// `max(x, 0)`.
    Relu,
    /// GELU (Hendrycks and Gimpel 2016, arXiv 1606.08415).
    Gelu,
}

/// The first of a head's two layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DenseLayer {
    /// Its module.
    pub module: &'static str,
    /// The function behind it.
    pub activation: HeadActivation,
}

/// The layout of a model's classification head, so that a stage's head is one that Hugging Face knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLayout {
    /// The layer before the output layer, if the head has two layers.
    pub dense: Option<DenseLayer>,
    /// The module of the output layer.
    pub output: &'static str,
    /// True if the output layer has a bias.
    pub bias: bool,
}

impl HeadLayout {
    /// The parameters of a head with this many outputs on a model of this width: `weight` `[outputs, hidden]`, and as the
    /// layout says `bias` `[outputs]`, `dense.weight` `[hidden, hidden]`, `dense.bias` `[hidden]`.
    /// Empty for 0 outputs.
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

    /// The modules under the model's root that hold the head: of `classifier.dense` and `classifier.out_proj` their parent,
    /// of `pre_classifier` and `classifier` both.
    ///
    /// ```
    /// use s3t_models::{DenseLayer, HeadActivation, HeadLayout};
    ///
    /// let dense = |module| Some(DenseLayer { module, activation: HeadActivation::Tanh });
    /// let layout = |module, output| HeadLayout { dense: dense(module), output, bias: true };
    /// assert_eq!(layout("classifier.dense", "classifier.out_proj").modules(), ["classifier"]);
    /// assert_eq!(layout("pre_classifier", "classifier").modules(), ["pre_classifier", "classifier"]);
    /// ```
    pub fn modules(&self) -> Vec<&'static str> {
        let root = |module: &'static str| module.split('.').next().unwrap_or(module);
        let mut modules: Vec<&str> = self.dense.iter().map(|dense| root(dense.module)).collect();
        if !modules.contains(&root(self.output)) {
            modules.push(root(self.output));
        }
        modules
    }

    /// The names of each parameter here and in files of Hugging Face, `(ours, theirs)`, in the order of
    /// [`parameters`](Self::parameters).
    pub fn names(&self) -> Vec<(&'static str, String)> {
        let mut names = vec![(WEIGHT, format!("{}.weight", self.output))];
        if self.bias {
            names.push((BIAS, format!("{}.bias", self.output)));
        }
        if let Some(DenseLayer { module: dense, .. }) = self.dense {
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
    dense: Option<(Linear, HeadActivation)>,
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
        let weight = |name: &str, rows: usize| -> Result<Weight, PeftError> {
            Ok(get(name, &[rows, hidden])?.reshape([rows, hidden]).transpose().into())
        };
        let dense = match layout.dense {
            Some(DenseLayer { activation, .. }) => {
                let bias = Some(get(DENSE_BIAS, &[hidden])?);
                Some((Linear { weight: weight(DENSE_WEIGHT, hidden)?, bias }, activation))
            }
            None => None,
        };
        let bias = if layout.bias { Some(get(BIAS, &[outputs])?) } else { None };
        Ok(Self { dense, output: Linear { weight: weight(WEIGHT, outputs)?, bias } })
    }

    /// `[batch, hidden]` to `[batch, outputs]`.
    pub fn forward(&self, pooled: Tensor<2>) -> Tensor<2> {
        let x = match &self.dense {
            Some((dense, HeadActivation::Tanh)) => activate(dense.forward(pooled), Activation::Tanh),
            Some((dense, HeadActivation::Relu)) => activate(dense.forward(pooled), Activation::Relu),
            Some((dense, HeadActivation::Gelu)) => activate(dense.forward(pooled), Activation::Gelu),
            None => pooled,
        };
        self.output.forward(x)
    }
}
