# SPDX-License-Identifier: BSD-3-Clause
# Mirror of src_c/include/fastlstm.h, and of what is ours alone, src_c/internal/binding.h;
# tests/packaging/test_contract.py compares them.
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t


cdef extern from "fastlstm.h" nogil:
    ctypedef enum fastlstm_dtype:
        FASTLSTM_F32
        FASTLSTM_F64

    ctypedef enum fastlstm_cell_kind:
        FASTLSTM_LSTM
        FASTLSTM_RNN_TANH
        FASTLSTM_RNN_RELU
        FASTLSTM_GRU
        FASTLSTM_LSTM_GENERAL
        FASTLSTM_GRU_RESET_BEFORE

    ctypedef enum fastlstm_pass:
        FASTLSTM_PASS_FORWARD
        FASTLSTM_PASS_BACKWARD

    ctypedef enum fastlstm_isa:
        FASTLSTM_ISA_GENERIC
        FASTLSTM_ISA_AVX2
        FASTLSTM_ISA_AVX512
        FASTLSTM_ISA_NEON
        FASTLSTM_ISA_COUNT

    ctypedef enum fastlstm_status:
        FASTLSTM_OK
        FASTLSTM_TOO_LARGE
        FASTLSTM_INTERRUPTED
        FASTLSTM_OUT_OF_RANGE
        FASTLSTM_INVALID
        FASTLSTM_UNSUPPORTED
        FASTLSTM_UNALIGNED
        FASTLSTM_NOT_PACKED
        FASTLSTM_OTHER_PLAN
        FASTLSTM_UNKNOWN_FIELD

    uint32_t fastlstm_version()
    const char *fastlstm_status_text(fastlstm_status status)

    ctypedef struct fastlstm_model:
        pass

    const char *fastlstm_isa_name(fastlstm_isa isa)
    int fastlstm_isa_available(fastlstm_isa isa)

    void *fastlstm_alloc(size_t bytes)
    void fastlstm_free(void *memory)

    ctypedef int fastlstm_poll(void *arg)

    ctypedef enum fastlstm_activation_kind:
        FASTLSTM_USUAL
        FASTLSTM_SIGMOID
        FASTLSTM_TANH
        FASTLSTM_HARD_SIGMOID
        FASTLSTM_RELU
        FASTLSTM_LEAKY_RELU
        FASTLSTM_THRESHOLDED_RELU
        FASTLSTM_ELU
        FASTLSTM_SOFTSIGN
        FASTLSTM_SOFTPLUS
        FASTLSTM_SCALED_TANH
        FASTLSTM_AFFINE
        FASTLSTM_LINEAR
        FASTLSTM_ACTIVATION_COUNT

    ctypedef struct fastlstm_activation:
        fastlstm_activation_kind kind
        double alpha, beta

    ctypedef enum fastlstm_norm_kind:
        FASTLSTM_NORM_NONE
        FASTLSTM_NORM_SUMS
        FASTLSTM_NORM_SEPARATE
        FASTLSTM_NORM_COUNT

    ctypedef struct fastlstm_options:
        int32_t peepholes
        int32_t coupled
        int32_t no_forget_gate
        double gate_clip
        double cell_clip
        fastlstm_activation gate, candidate, output
        double proj_clip
        fastlstm_norm_kind layer_norm
        double norm_epsilon
        double zoneout_c, zoneout_h
        double recurrent_dropout
        double variational_dropout
        double input_dropout

    ctypedef struct fastlstm_peepholes:
        const void *i
        const void *f
        const void *o

    ctypedef struct fastlstm_norms:
        const void *n
        const void *nx
        const void *nh
        const void *nc
        const void *bias_nc

    ctypedef struct fastlstm_spec:
        size_t struct_size
        int64_t input_size, hidden_size, num_layers
        int32_t directions
        fastlstm_cell_kind cell
        fastlstm_dtype dtype
        fastlstm_isa isa
        int32_t gemm_blas
        int32_t passes
        int64_t proj_size
        fastlstm_options options
        const fastlstm_peepholes *peepholes
        const fastlstm_norms *norms

    ctypedef struct fastlstm_weights:
        const void *w_ih
        const void *w_hh
        const void *b_ih
        const void *b_hh

    fastlstm_status fastlstm_model_bytes(const fastlstm_spec *spec, size_t *bytes)
    fastlstm_status fastlstm_model_pack(const fastlstm_spec *spec, const fastlstm_weights *weights,
                                        void *memory, int32_t threads, fastlstm_poll *poll,
                                        void *poll_arg, fastlstm_model **model)

    ctypedef enum fastlstm_purpose:
        FASTLSTM_INFER
        FASTLSTM_TRAIN
        FASTLSTM_BACK


cdef extern from "internal/binding.h" nogil:
    ctypedef struct fl_kernels:
        pass

    const fl_kernels *fl_kernels_for(fastlstm_isa isa, fastlstm_dtype dtype)

    ctypedef enum fl_cache_kind:
        FL_CACHES_OF_CPU
        FL_CACHES_FAST
        FL_CACHES_SLOW
        FL_CACHES_MIDDLE

    ctypedef struct fl_cache_sizes:
        int64_t l1, l2, l3

    fl_cache_sizes fl_cache_sizes_of_cpu()

    uint64_t fl_hash(fastlstm_isa isa, const void *data, size_t bytes, uint64_t seed)

    void fl_model_assume_caches(fastlstm_model *model, fl_cache_kind kind)

    ctypedef struct fl_panels:
        int32_t lanes
        int32_t bundle
        int32_t full
        int32_t units
        int32_t remainder
        int32_t rest
        int32_t chains

    fl_panels fl_model_panels(const fastlstm_model *model)

    ctypedef struct fastlstm_plan:
        const fastlstm_model *model
        fastlstm_purpose purpose
        int64_t steps, batch
        int32_t threads
        int32_t dir_groups
        int32_t row_groups
        int32_t unit_groups
        int64_t project_steps
        int64_t block_steps
        int64_t chunk_rows
        size_t workspace_bytes
        int64_t layout[24]

    ctypedef struct fl_estimate:
        double total, multiply, read
        int32_t level
    fl_estimate fl_plan_estimate(const fastlstm_model *model, const fastlstm_plan *plan)

    ctypedef struct fl_choice:
        int32_t dir_groups, row_groups, unit_groups
        int32_t ahead

    fastlstm_status fl_plan_force(const fastlstm_model *model, const fl_choice *choice,
                                  fastlstm_plan *plan)

    void fl_drop_weights(const fl_kernels *kernels, void *weights, int64_t rows, int64_t columns,
                         double p, uint64_t seed, int64_t place)

    int fl_team_max()
    int fl_team_most()
    int fl_team_cpus()
    void fl_team_forked()
    const char *fl_team_name()
    double fl_now()

    double fl_measure_fma(const fl_kernels *kernels, double seconds)
    double fl_measure_read(const fl_kernels *kernels, const void *data, int64_t bytes,
                           double seconds)


cdef extern from "fastlstm.h" nogil:
    size_t fastlstm_plan_bytes()
    fastlstm_status fastlstm_plan_make(const fastlstm_model *model, fastlstm_purpose purpose,
                                       int64_t steps, int64_t batch, int32_t threads,
                                       fastlstm_plan *plan)
    size_t fastlstm_plan_workspace_bytes(const fastlstm_plan *plan)
    int32_t fastlstm_plan_threads(const fastlstm_plan *plan)
    fastlstm_status fastlstm_tape_bytes(const fastlstm_spec *spec, int64_t steps, int64_t batch,
                                        size_t *bytes)

    ctypedef void fastlstm_gemm(fastlstm_dtype dtype, int64_t rows, int64_t n, int64_t k,
                                const void *a, int64_t lda, const void *b, int64_t ldb, void *c,
                                int64_t ldc)

    ctypedef struct fastlstm_io:
        size_t struct_size
        const void *x
        int64_t x_t, x_b
        void *y
        int64_t y_t, y_b
        void *cells
        int64_t cells_t, cells_b
        const void *h_0
        const void *c_0
        void *h_n
        void *c_n
        const int64_t *lengths
        const int64_t *starts
        fastlstm_gemm *gemm
        fastlstm_poll *poll
        void *poll_arg
        void *tape
        double dropout
        uint64_t seed
        int32_t *straggled
        int64_t noisy

    fastlstm_status fastlstm_forward(const fastlstm_model *model, const fastlstm_plan *plan,
                                     const fastlstm_io *io, void *workspace)

    ctypedef struct fastlstm_gradients:
        void *w_ih
        void *w_hh
        void *b_ih
        void *b_hh

    ctypedef struct fastlstm_peephole_gradients:
        void *i
        void *f
        void *o

    ctypedef struct fastlstm_norm_gradients:
        void *n
        void *nx
        void *nh
        void *nc
        void *bias_nc

    ctypedef struct fastlstm_back_io:
        size_t struct_size
        const void *tape
        const void *x
        int64_t x_t, x_b
        const int64_t *lengths
        const int64_t *starts
        const void *dy
        int64_t dy_t, dy_b
        const void *dcells
        int64_t dcells_t, dcells_b
        const void *dh_n
        const void *dc_n
        void *dx
        int64_t dx_t, dx_b
        void *dh_0
        void *dc_0
        const fastlstm_gradients *gradients
        int32_t accumulate
        double dropout
        uint64_t seed
        fastlstm_poll *poll
        void *poll_arg
        int32_t *straggled
        const fastlstm_peephole_gradients *peepholes
        const fastlstm_norm_gradients *norms
        int64_t noisy

    fastlstm_status fastlstm_backward(const fastlstm_model *model, const fastlstm_plan *plan,
                                      const fastlstm_back_io *io, void *workspace)
