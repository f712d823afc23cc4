# SPDX-License-Identifier: BSD-3-Clause
# Packed weights, and the runs on them. Part of _core.pyx.

PURPOSES = {"infer": FASTLSTM_INFER, "train": FASTLSTM_TRAIN, "back": FASTLSTM_BACK}


cdef class Engine:
    """The packed, immutable weights of one model, and the runs on them.

    ``spec`` is a `fastlstm.spec.Spec`, ``gemm`` the address of a BLAS if it asks for one.
    ``weights`` lists (w_ih, w_hh, b_ih, b_hh, w_hr) for each layer and direction, the last three None
    where they are not there, and behind them those of the peepholes of i, f and o and what normalises
    (`fastlstm.spec.NORMS`) where there are some: arrays, or addresses of what the caller keeps alive
    while they are packed.
    ``passes`` is what they are packed for: 1 forward, 2 backward, 3 both; by ``threads`` at most.
    ``backoff`` may be shared with engines that come before and after, else it has its own.
    ``hold_gil``: no other Python thread runs while the weights are read.
    """

    cdef readonly Block memory
    cdef fastlstm_model *model
    cdef readonly int64_t input_size, hidden_size, num_layers
    cdef readonly int64_t outputs  # width of h
    cdef readonly int directions
    cdef readonly str isa
    cdef fastlstm_spec spec
    cdef readonly bint has_c  # whether there is a state c beside h
    cdef int64_t rows  # of every weight matrix
    cdef fastlstm_gemm *gemm
    cdef Block spare  # the workspace of the last run, for the next one
    cdef double flops_per_row, least_step
    cdef StragglerBackoff backoff
    cdef fl_choice choices[3]  # by purpose
    cdef bint forced[3]

    def __init__(self, spec, str isa, list weights, uintptr_t gemm=0, int passes=1, int threads=1,
                 StragglerBackoff backoff=None, bint hold_gil=False):
        cdef fastlstm_spec made = make_spec(spec, isa, passes)
        cdef fastlstm_model *model = NULL
        cdef fastlstm_status status
        cdef char format = b"d" if made.dtype == FASTLSTM_F64 else b"f"
        cdef int64_t hidden = made.hidden_size, outputs = spec.outputs
        cdef int64_t count = made.num_layers * made.directions, above = made.directions * outputs
        cdef int64_t inputs, rows = spec.rows
        cdef double per_row = rows  # multiply-adds of a row with one input
        cdef size_t size = 0
        cdef fastlstm_weights *table
        cdef fastlstm_peepholes *peepholes
        cdef fastlstm_norms *norms
        cdef list calls = []
        cdef Call call
        cdef int64_t i
        if made.gemm_blas and gemm == 0:
            raise ValueError("gemm='blas' needs the address of a BLAS")
        status = fastlstm_model_bytes(&made, &size)
        if status == FASTLSTM_TOO_LARGE:
            raise MemoryError("the packed weights would not fit into any memory")
        check_status(status)
        self.memory = Block(size)
        self.spec = made
        self.has_c = spec.has_c
        self.rows = rows
        self.gemm = <fastlstm_gemm *>gemm if made.gemm_blas else NULL
        self.backoff = StragglerBackoff() if backoff is None else backoff
        self.input_size = made.input_size
        self.hidden_size = hidden
        self.outputs = outputs
        self.num_layers = made.num_layers
        self.directions = made.directions
        self.isa = isa
        self.least_step = LEAST_STEP * made.num_layers * made.directions
        self.flops_per_row = 2.0 * made.directions * per_row * (
            made.input_size + outputs + (made.num_layers - 1.0) * (above + outputs))
        self.flops_per_row += 2.0 * count * made.proj_size * hidden
        if <int64_t>len(weights) != count:
            raise ValueError(f"weights must be those of {count} layers and directions, got {len(weights)}")
        table = <fastlstm_weights *>calloc(2 * count, sizeof(fastlstm_weights))
        peepholes = <fastlstm_peepholes *>calloc(count, sizeof(fastlstm_peepholes))
        norms = <fastlstm_norms *>calloc(count, sizeof(fastlstm_norms))
        try:
            if table == NULL or peepholes == NULL or norms == NULL:
                raise MemoryError()
            for i in range(count):
                call = Call()
                calls.append(call)
                w_ih, w_hh, b_ih, b_hh, w_hr = weights[i][:5]
                if w_ih is None or w_hh is None or (w_hr is None) != (made.proj_size == 0):
                    raise TypeError("a layer lacks its weights")
                inputs = made.input_size if i < made.directions else above
                table[i].w_ih = call.whole("weight_ih", w_ih, 0, format, rows * inputs)
                table[i].w_hh = call.whole("weight_hh", w_hh, 0, format, rows * outputs)
                table[i].b_ih = call.whole("bias_ih", b_ih, 0, format, rows)
                table[i].b_hh = call.whole("bias_hh", b_hh, 0, format, rows)
                table[count + i].w_ih = call.whole("weight_hr", w_hr, 0, format, outputs * hidden)
                if made.options.peepholes:
                    take_peepholes(call, weights[i], 0, format, hidden,
                                   <fastlstm_peephole_gradients *>&peepholes[i])
                if made.options.layer_norm:
                    take_norms(call, weights[i], 0, format, hidden, &made.options,
                               <fastlstm_norm_gradients *>&norms[i])
            if made.options.peepholes:
                made.peepholes = peepholes
            if made.options.layer_norm:
                made.norms = norms
            call = Call()
            if hold_gil:
                status = fastlstm_model_pack(&made, table, self.memory.data, threads, check_signals,
                                             <void *>call, &model)
            else:
                with nogil:
                    status = fastlstm_model_pack(&made, table, self.memory.data, threads,
                                                 check_signals, <void *>call, &model)
        finally:
            free(table)
            free(peepholes)
            free(norms)
        if status == FASTLSTM_INTERRUPTED:
            raise call.error
        if status == FASTLSTM_OUT_OF_RANGE:
            most = "6.2e307" if made.dtype == FASTLSTM_F64 else "1.17e38"
            if made.cell == FASTLSTM_GRU or made.cell == FASTLSTM_GRU_RESET_BEFORE:
                raise ValueError(f"finite weights must be below {most}, twice that for the gates r and z: "
                                 "kernels scale them by log2 e (2 log2 e for n)")
            if made.cell != FASTLSTM_LSTM:
                raise ValueError(f"finite weights must be below {most}: kernels scale them by 2 log2 e")
            raise ValueError(f"finite weights must be below {most}, twice that for the gates i, f and o: "
                             "kernels scale them by log2 e (2 log2 e for g)")
        check_status(status)
        fl_model_assume_caches(model, assumed_caches)
        self.model = model

    cdef Block workspace(self, size_t size, size_t results=0):
        """Memory for a run that also fills `results` bytes which nobody has touched yet."""
        cdef Block block = self.spare
        self.spare = None
        if block is None or block.nbytes < size:
            block = None
            if not fits(results + size):
                raise MemoryError(f"a run of {results} bytes of results and {size} of workspace takes "
                                  "more than the memory available")
            return Block(size)
        if not fits(results):
            raise MemoryError(f"{results} bytes of results are more than the memory available")
        return block

    cdef void keep(self, Block space) noexcept:
        if space.nbytes <= SPARE_MOST:
            self.spare = space

    cdef fastlstm_plan make_plan(self, fastlstm_purpose purpose, int64_t steps, int64_t batch,
                                 int threads) except *:
        cdef fastlstm_plan plan
        cdef int passes = FASTLSTM_PASS_BACKWARD if purpose == FASTLSTM_BACK else FASTLSTM_PASS_FORWARD
        if self.model == NULL:
            raise RuntimeError("this engine was never made")
        if not self.spec.passes & passes:
            raise RuntimeError("the weights were not packed for this pass")
        cdef fastlstm_status status = fastlstm_plan_make(self.model, purpose, steps, batch, threads,
                                                         &plan)
        if status == FASTLSTM_TOO_LARGE:
            raise MemoryError("the workspace would not fit into any memory")
        check_status(status)
        if self.forced[<int>purpose]:
            check_status(fl_plan_force(self.model, &self.choices[<int>purpose], &plan))
        return plan

    def force(self, int dir_groups, int row_groups, int unit_groups, bint ahead, str purpose="infer"):
        """For measurements: runs of that purpose by this plan from now on, whatever the threads of a
        call. Threads are the product of the groups; in training, row groups are those that take the
        parts of the batch in turn. RuntimeError, at the call, where it does not fit."""
        cdef int at = PURPOSES[purpose]
        self.choices[at] = fl_choice(dir_groups, row_groups, unit_groups, ahead)
        self.forced[at] = True

    cdef void *tape_of(self, Call call, object tape, int flags, fastlstm_plan *plan) except NULL:
        cdef size_t size = 0
        cdef Py_buffer *buffer = call.take("tape", tape, flags)
        if fastlstm_tape_bytes(&self.spec, plan.steps, plan.batch, &size) != FASTLSTM_OK:
            raise MemoryError("the tape would not fit into any memory")
        if <size_t>buffer.len < size or <uintptr_t>buffer.buf % 64 != 0:
            raise ValueError(f"tape must have {size} bytes at a multiple of 64")
        return buffer.buf

    cdef int run(self, fastlstm_plan *plan, fastlstm_io *io, void *workspace, Call call) except -1:
        cdef fastlstm_status status
        cdef int32_t straggled = 0
        io.gemm = self.gemm
        io.straggled = &straggled
        if self.is_small(plan):
            status = fastlstm_forward(self.model, plan, io, workspace)
        else:
            io.poll = check_signals
            io.poll_arg = <void *>call
            with nogil:
                status = fastlstm_forward(self.model, plan, io, workspace)
        if plan.threads > 1:
            self.backoff.note(straggled)
        if status == FASTLSTM_INTERRUPTED:
            raise call.error
        check_status(status)
        return 0

    cdef size_t item(self) noexcept:
        """Bytes of an element."""
        return 8 if self.spec.dtype == FASTLSTM_F64 else 4

    cdef bint is_small(self, fastlstm_plan *plan) noexcept:
        """Whether a run is over before anybody could want to stop it."""
        return (self.flops_per_row * plan.batch + self.least_step) * plan.steps < SMALL_CALL

    def forward(self, x, y, h_0, c_0, h_n, c_n, cells, lengths, int threads, bint out=False,
                tape=None, double dropout=0.0, uint64_t seed=0, starts=None, size_t untouched=0,
                bint noisy=False):
        """x (T, B, I), y (T, B, D*P) and cells (T, B, D*H) with unit last stride, arrays or Strided;
        states contiguous, arrays or addresses. P is the width of h, `outputs`. lengths and starts are
        arrays, as the tape is.

        With ``starts`` (T) they are (N, I), (N, D*P) and (N, D*H), step t of sequence b being row
        starts[t] + b; lengths do not rise then. ``untouched``: bytes of the tape, if it is new, which
        like the results take no memory yet. ``out``: y does. ``noisy``: the
        noise of options acts, onto a tape only.
        """
        cdef Call call = Call()
        cdef fastlstm_io io
        cdef fastlstm_plan plan
        cdef Block space
        cdef Extent extent
        cdef int64_t h_states, c_states
        cdef int64_t width = self.directions * self.outputs, units = self.directions * self.hidden_size
        cdef char format = b"d" if self.spec.dtype == FASTLSTM_F64 else b"f"
        memset(&io, 0, sizeof(io))
        io.struct_size = sizeof(io)
        try:
            call.measure(x, lengths, starts, &extent)
            plan = self.make_plan(FASTLSTM_INFER if tape is None else FASTLSTM_TRAIN, extent.steps,
                                  extent.batch, 1 if self.backoff.held() else threads)
            io.x = call.rows("x", x, 0, format, &extent, self.input_size, &io.x_t, &io.x_b)
            io.y = call.rows("y", y, PyBUF_WRITABLE, format, &extent, width, &io.y_t, &io.y_b)
            io.cells = call.rows("cells", cells, PyBUF_WRITABLE, format, &extent, units,
                                 &io.cells_t, &io.cells_b)
            h_states = self.num_layers * extent.batch * width
            c_states = self.num_layers * extent.batch * units
            io.h_0 = call.whole("h_0", h_0, 0, format, h_states)
            io.c_0 = call.whole("c_0", c_0, 0, format, c_states)
            io.h_n = call.whole("h_n", h_n, PyBUF_WRITABLE, format, h_states)
            io.c_n = call.whole("c_n", c_n, PyBUF_WRITABLE, format, c_states)
            io.lengths = call.integers("lengths", lengths, extent.batch)
            io.starts = call.integers("starts", starts, extent.steps)
            check_lengths(io.lengths, io.starts, &extent)
            if tape is not None:
                io.tape = self.tape_of(call, tape, PyBUF_WRITABLE, &plan)
                io.dropout = dropout
                io.seed = seed
                io.noisy = noisy
            untouched += self.item() * (
                h_states + self.has_c * c_states
                + count_rows(&extent) * (width * (not out) + units * (io.cells != NULL)))
            space = self.workspace(plan.workspace_bytes, untouched)
            self.run(&plan, &io, space.data, call)
            self.keep(space)
        finally:
            call.release()

    def backward(self, tape, x, lengths, dy, dcells, dh_n, dc_n, dx, dh_0, dc_0, list grads,
                 bint accumulate, int threads, double dropout=0.0, uint64_t seed=0, starts=None,
                 bint noisy=False):
        """Gradients from the tape of a forward pass with the same x, lengths, dropout, seed and noise.

        Arrays as in `forward`; ``grads`` is None or lists (w_ih, w_hh, b_ih, b_hh, w_hr and those of
        peepholes and of what normalises), as weights are given, for each layer and direction, contiguous.
        """
        cdef Call call = Call(), held
        cdef fastlstm_back_io io
        cdef fastlstm_plan plan
        cdef fastlstm_status status
        cdef Block space
        cdef Extent extent
        cdef int64_t h_states, c_states, inputs, count = self.num_layers * self.directions
        cdef size_t results  # elements of arrays that nobody has touched yet, as far as is known here
        cdef int64_t width = self.directions * self.outputs, units = self.directions * self.hidden_size
        cdef int64_t rows = self.rows
        cdef char format = b"d" if self.spec.dtype == FASTLSTM_F64 else b"f"
        cdef fastlstm_gradients *table = NULL
        cdef fastlstm_peephole_gradients *peepholes = NULL
        cdef fastlstm_norm_gradients *norms = NULL
        cdef list calls = []
        cdef int32_t straggled = 0
        cdef int64_t i
        memset(&io, 0, sizeof(io))
        io.struct_size = sizeof(io)
        try:
            call.measure(x, lengths, starts, &extent)
            plan = self.make_plan(FASTLSTM_BACK, extent.steps, extent.batch,
                                  1 if self.backoff.held() else threads)
            io.x = call.rows("x", x, 0, format, &extent, self.input_size, &io.x_t, &io.x_b)
            io.tape = self.tape_of(call, tape, 0, &plan)
            io.lengths = call.integers("lengths", lengths, extent.batch)
            io.starts = call.integers("starts", starts, extent.steps)
            check_lengths(io.lengths, io.starts, &extent)
            io.dy = call.rows("dy", dy, 0, format, &extent, width, &io.dy_t, &io.dy_b)
            io.dcells = call.rows("dcells", dcells, 0, format, &extent, units, &io.dcells_t,
                                  &io.dcells_b)
            io.dx = call.rows("dx", dx, PyBUF_WRITABLE, format, &extent, self.input_size, &io.dx_t,
                              &io.dx_b)
            h_states = self.num_layers * extent.batch * width
            c_states = self.num_layers * extent.batch * units
            io.dh_n = call.whole("dh_n", dh_n, 0, format, h_states)
            io.dc_n = call.whole("dc_n", dc_n, 0, format, c_states)
            io.dh_0 = call.whole("dh_0", dh_0, PyBUF_WRITABLE, format, h_states)
            io.dc_0 = call.whole("dc_0", dc_0, PyBUF_WRITABLE, format, c_states)
            results = h_states + self.has_c * c_states
            if grads is not None:
                if <int64_t>len(grads) != count:
                    raise ValueError("gradients are missing")
                table = <fastlstm_gradients *>calloc(2 * count, sizeof(fastlstm_gradients))
                peepholes = <fastlstm_peephole_gradients *>calloc(
                    count, sizeof(fastlstm_peephole_gradients))
                norms = <fastlstm_norm_gradients *>calloc(count, sizeof(fastlstm_norm_gradients))
                if table == NULL or peepholes == NULL or norms == NULL:
                    raise MemoryError()
                for i in range(count):
                    held = Call()
                    calls.append(held)
                    w_ih, w_hh, b_ih, b_hh, w_hr = grads[i][:5]
                    if w_ih is None or w_hh is None or (w_hr is None) != (self.spec.proj_size == 0):
                        raise TypeError("a layer lacks its gradients")
                    inputs = self.input_size if i < self.directions else width
                    table[i].w_ih = held.whole("gradient of weight_ih", w_ih, PyBUF_WRITABLE, format,
                                               rows * inputs)
                    table[i].w_hh = held.whole("gradient of weight_hh", w_hh, PyBUF_WRITABLE, format,
                                               rows * self.outputs)
                    table[i].b_ih = held.whole("gradient of bias_ih", b_ih, PyBUF_WRITABLE, format,
                                               rows)
                    table[i].b_hh = held.whole("gradient of bias_hh", b_hh, PyBUF_WRITABLE, format,
                                               rows)
                    table[count + i].w_ih = held.whole("gradient of weight_hr", w_hr, PyBUF_WRITABLE, format,
                                                       self.outputs * self.hidden_size)
                    if not accumulate:
                        results += rows * (inputs + self.outputs) + self.spec.proj_size * self.hidden_size
                    if self.spec.options.peepholes:
                        take_peepholes(held, grads[i], PyBUF_WRITABLE, format, self.hidden_size,
                                       &peepholes[i])
                    if self.spec.options.layer_norm:
                        take_norms(held, grads[i], PyBUF_WRITABLE, format, self.hidden_size,
                                   &self.spec.options, &norms[i])
                io.gradients = table
                if self.spec.options.peepholes:
                    io.peepholes = peepholes
                if self.spec.options.layer_norm:
                    io.norms = norms
                io.accumulate = accumulate
            io.dropout = dropout
            io.seed = seed
            io.noisy = noisy
            io.straggled = &straggled
            io.poll = check_signals
            io.poll_arg = <void *>call
            if io.dx != NULL:
                results += count_rows(&extent) * self.input_size
            space = self.workspace(plan.workspace_bytes, results * self.item())
            with nogil:
                status = fastlstm_backward(self.model, &plan, &io, space.data)
            if plan.threads > 1:
                self.backoff.note(straggled)
            if status == FASTLSTM_INTERRUPTED:
                raise call.error
            check_status(status)
            self.keep(space)
        finally:
            call.release()
            free(table)
            free(peepholes)
            free(norms)

    def plan(self, int64_t steps, int64_t batch, int threads, str purpose="infer"):
        """The plan of a run ("infer", "train" or "back") as a dict, with what it takes in bytes."""
        cdef fastlstm_plan plan = self.make_plan(PURPOSES[purpose], steps, batch, threads)
        cdef fl_panels panels = fl_model_panels(self.model)
        cdef fl_estimate estimate = fl_plan_estimate(self.model, &plan)
        return {
            "isa": self.isa,
            "lanes": panels.lanes,
            "bundle": panels.bundle,
            "full": panels.full,
            "units": panels.units,
            "remainder": panels.remainder,
            "rest": panels.rest,
            "chains": panels.chains,
            "threads": plan.threads,
            "dir_groups": plan.dir_groups,
            "row_groups": plan.row_groups,
            "unit_groups": plan.unit_groups,
            "project_steps": plan.project_steps,
            "block_steps": plan.block_steps,
            "chunk_rows": plan.chunk_rows,
            "workspace_bytes": plan.workspace_bytes,
            "weight_bytes": self.memory.size,
            "estimate": estimate,
        }
