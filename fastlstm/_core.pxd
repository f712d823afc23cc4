# SPDX-License-Identifier: BSD-3-Clause
# Mirror of src_c/include/fastlstm.h, and of what is ours alone, src_c/internal/binding.h;
# tests/packaging/test_contract.py compares them.
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t


cdef extern from "fastlstm.h" nogil:
    ctypedef enum fl_dtype:
        FL_F32
        FL_F64

    ctypedef enum fl_cell_kind:
        FL_LSTM
        FL_RNN_TANH
        FL_RNN_RELU

    ctypedef enum fl_pass:
        FL_PASS_FORWARD
        FL_PASS_BACKWARD

    ctypedef enum fl_isa:
        FL_ISA_GENERIC
        FL_ISA_AVX2
        FL_ISA_AVX512
        FL_ISA_NEON
        FL_ISA_COUNT

    ctypedef enum fl_status:
        FL_OK
        FL_TOO_LARGE
        FL_INTERRUPTED
        FL_OUT_OF_RANGE
        FL_INVALID
        FL_UNSUPPORTED
        FL_UNALIGNED
        FL_NOT_PACKED
        FL_OTHER_PLAN
        FL_UNKNOWN_FIELD

    uint32_t fl_version()
    const char *fl_status_text(fl_status status)

    ctypedef struct fl_model:
        pass

    const char *fl_isa_name(fl_isa isa)
    int fl_isa_available(fl_isa isa)

    void *fl_alloc(size_t bytes)
    void fl_free(void *memory)

    ctypedef int fl_poll(void *arg)

    ctypedef struct fl_spec:
        size_t struct_size
        int64_t input_size, hidden_size, num_layers
        int32_t directions
        fl_cell_kind cell
        fl_dtype dtype
        fl_isa isa
        int32_t gemm_blas
        int32_t passes

    ctypedef struct fl_weights:
        const void *w_ih
        const void *w_hh
        const void *b_ih
        const void *b_hh

    fl_status fl_model_bytes(const fl_spec *spec, size_t *bytes)
    fl_status fl_model_pack(const fl_spec *spec, const fl_weights *weights, void *memory,
                            int32_t threads, fl_poll *poll, void *poll_arg,
                            fl_model **model)

    ctypedef enum fl_purpose:
        FL_INFER
        FL_TRAIN
        FL_BACK


cdef extern from "internal/binding.h" nogil:
    ctypedef struct fl_kernels:
        pass

    const fl_kernels *fl_kernels_for(fl_isa isa, fl_dtype dtype)

    ctypedef enum fl_cache_kind:
        FL_CACHES_OF_CPU
        FL_CACHES_FAST
        FL_CACHES_SLOW

    uint64_t fl_hash(fl_isa isa, const void *data, size_t bytes, uint64_t seed)

    void fl_model_assume_caches(fl_model *model, fl_cache_kind kind)

    ctypedef struct fl_panels:
        int32_t lanes
        int32_t full
        int32_t tail
        int32_t chains

    fl_panels fl_model_panels(const fl_model *model)

    ctypedef struct fl_plan:
        const fl_model *model
        fl_purpose purpose
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
    size_t fl_plan_bytes()
    fl_status fl_plan_make(const fl_model *model, fl_purpose purpose, int64_t steps, int64_t batch,
                           int32_t threads, fl_plan *plan)
    size_t fl_plan_workspace_bytes(const fl_plan *plan)
    int32_t fl_plan_threads(const fl_plan *plan)
    fl_status fl_tape_bytes(const fl_spec *spec, int64_t steps, int64_t batch, size_t *bytes)

    ctypedef void fl_gemm(fl_dtype dtype, int64_t rows, int64_t n, int64_t k, const void *a,
                          int64_t lda, const void *b, int64_t ldb, void *c, int64_t ldc)

    ctypedef struct fl_io:
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
        fl_gemm *gemm
        fl_poll *poll
        void *poll_arg
        void *tape
        double dropout
        uint64_t seed
        int32_t *late

    fl_status fl_forward(const fl_model *model, const fl_plan *plan, const fl_io *io,
                         void *workspace)

    ctypedef struct fl_gradients:
        void *w_ih
        void *w_hh
        void *b_ih
        void *b_hh

    ctypedef struct fl_back_io:
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
        const fl_gradients *gradients
        int32_t accumulate
        double dropout
        uint64_t seed
        fl_poll *poll
        void *poll_arg
        int32_t *late

    fl_status fl_backward(const fl_model *model, const fl_plan *plan, const fl_back_io *io,
                          void *workspace)
