//! ONNX Runtime's own operators (domain com.microsoft), as its optimiser and quantiser write them into models.

mod attention;
mod fused;
mod quantized;

use super::{Row, Signature, quantize, table};

/// Every operator of the domain com.microsoft that Kinglet reads.
pub const CONTRIB_OPERATORS: &[Row] = table! {
    "Attention" (1: "T T T? int32? T? T? int32?" => 2;
        "do_rotary:i mask_filter_value:f num_heads:i past_present_share_buffer:i qkv_hidden_sizes:I rotary_embedding_dim:i scale:f unidirectional:i"),
        attention::attention, "MatMul and Softmax", "without a shared buffer and rotation";
    "BiasGelu" (1: "T T" => 1; ""), fused::bias_gelu, "Binary and Unary";
    "DequantizeLinear" (1: "T float T?" => 1; "axis:i"), quantize::dequantize, "part of its neighbours, or Convert";
    "DynamicQuantizeLSTM" (1: "T U U T? int32? T? T? T? float V? float W?" => 3;
        "activation_alpha:F activation_beta:F activations:S clip:f direction:s hidden_size:i input_forget:i"),
        super::recurrent::dynamic_lstm, "Conv, and Lstm", "constant weights, the recurrent ones as f32; the hidden state is not rounded";
    "DynamicQuantizeMatMul" (1: "float T float T? float?" => 1; ""), quantized::dynamic_matmul, "MatMul";
    "EmbedLayerNormalization" (1: "index index? T T T? T T index? index?" => 3; "epsilon:f mask_index_type:i"),
        fused::embed_layer_norm, "Gather and Norm";
    "FastGelu" (1: "T T?" => 1; ""), fused::fast_gelu, "Unary";
    "FusedConv" (1: "T T T? T?" => 1;
        "activation:s activation_params:F auto_pad:s dilations:I group:i kernel_shape:I pads:I strides:I"),
        fused::conv, "Conv… or Depthwise…";
    "FusedGemm" (1: "T T T?" => 1;
        "activation:s activation_alpha:f activation_beta:f activation_gamma:f alpha:f beta:f transA:i transB:i"),
        fused::gemm, "Conv or MatMul";
    "FusedMatMul" (1: "T T" => 1; "alpha:f transA:i transB:i transBatchA:i transBatchB:i"), fused::matmul, "Conv or MatMul";
    "Gelu" (1: "T" => 1; ""), super::activation::gelu, "Unary";
    "MatMulIntegerToFloat" (1: "A B float float A? B? float?" => 1; ""), quantized::matmul_to_float, "MatMul";
    "MatMulNBits" (1: "T uint8 T T3? index? T?" => 1; "K:i N:i accuracy_level:i bits:i block_size:i weight_prepacked:i"),
        quantized::matmul_n_bits, "Conv", "constant weights, in f32";
    "MultiHeadAttention" (1: "T T? T? T? int32? T? T? T? int32? int32?" => 4;
        "mask_filter_value:f num_heads:i scale:f unidirectional:i"),
        attention::multi_head, "MatMul and Softmax", "without packed inputs";
    "QAttention" (1: "T1 T2 float float float int32? T1? T2? float?" => 2;
        "do_rotary:i mask_filter_value:f num_heads:i past_present_share_buffer:i scale:f unidirectional:i"),
        attention::quantized, "MatMul and Softmax", "without a shared buffer and rotation";
    "QGemm" (1: "TA float TA? TB float TB? int32? float? TY?" => 1; "alpha:f transA:i transB:i"), quantized::gemm, "Conv or MatMul";
    "QLinearAdd" (1: "T float T? T float T? float T?" => 1; ""), quantized::binary, "Binary";
    "QLinearAveragePool" (1: "T float T? float T?" => 1;
        "auto_pad:s ceil_mode:i channels_last:i count_include_pad:i kernel_shape:I pads:I strides:I"),
        quantized::average_pool, "Pool";
    "QLinearConcat" (1: "float T _*" => 1; "axis:i"), quantized::concat, "Copy and Convert";
    "QLinearGlobalAveragePool" (1: "T float T? float T?" => 1; "channels_last:i"), quantized::global_average_pool, "Reduce";
    "QLinearLeakyRelu" (1: "T float T? float T?" => 1; "alpha:f"), quantized::unary, "Lut";
    "QLinearMul" (1: "T float T? T float T? float T?" => 1; ""), quantized::binary, "Binary";
    "QLinearReduceMean" (1: "T float T? float T?" => 1; "axes:I keepdims:i"), quantized::reduce_mean, "Reduce";
    "QLinearSigmoid" (1: "T float T? float T?" => 1; ""), quantized::unary, "Lut";
    "QLinearSoftmax" (1: "T float T? float T?" => 1; "axis:i opset:i"), quantized::softmax, "Softmax";
    "QLinearWhere" (1: "bool T float T? T float T? float T?" => 1; ""), quantized::select, "Ternary";
    "QuantizeLinear" (1: "T float U?" => 1; "axis:i"), quantize::quantize, "part of its neighbours, or Convert";
    "QuickGelu" (1: "T" => 1; "alpha:f"), fused::quick_gelu, "Unary";
    "SkipLayerNormalization" (1: "T T T T? T?" => 4; "epsilon:f"), fused::skip_layer_norm, "Binary and Norm";
    "SkipSimplifiedLayerNormalization" (1: "T T T T?" => 4; "epsilon:f"), fused::skip_layer_norm, "Binary and Norm";
};
