// Lines of gemm/bf16_linear (BLOCK_M=64, BLOCK_N=32, BLOCK_K=128) as bishengir-compile 1.2.0 planned it for Ascend910B2: heads,
// buffers, chosen buffers, syncs, matrix calls and scalar accesses; arguments cut.
module attributes {hivm.module_core_type = #hivm.module_core_type<MIX>} {
  func.func @_linear_infer_workspace_shape_function() -> index {
    %c98432 = arith.constant 98432 : index
    return %c98432 : index
  }
  func.func @_linear_infer_task_type_function() -> i8 {
    return %c32_i8 : i8
  }
  func.func @_linear_mix_aic(%arg0: i64) {
    %c1_i64 = arith.constant 1 : i64
    %c2_i64 = arith.constant 2 : i64
    %c3_i64 = arith.constant 3 : i64
    %c-1_i64 = arith.constant -1 : i64
    %c24576_i64 = arith.constant 24576 : i64
    %c0_i64 = arith.constant 0 : i64
    %c16384_i64 = arith.constant 16384 : i64
    %c40960_i64 = arith.constant 40960 : i64
    %0 = hivm.hir.pointer_cast(%c16384_i64) : memref<2x8x16x16xbf16, #hivm.address_space<cbuf>>
    %1 = hivm.hir.pointer_cast(%c40960_i64) : memref<2x8x16x16xbf16, #hivm.address_space<cbuf>>
    %2 = hivm.hir.pointer_cast(%c0_i64) : memref<8x4x16x16xbf16, #hivm.address_space<cbuf>>
    %3 = hivm.hir.pointer_cast(%c24576_i64) : memref<8x4x16x16xbf16, #hivm.address_space<cbuf>>
    hivm.hir.sync_block_set[<CUBE>, <PIPE_MTE2>, <PIPE_S>] flag = 0 ffts_base_addr = %arg0
    hivm.hir.sync_block_set[<CUBE>, <PIPE_MTE2>, <PIPE_S>] flag = 1 ffts_base_addr = %arg0
    hivm.hir.sync_block_set[<CUBE>, <PIPE_MTE2>, <PIPE_S>] flag = 2 ffts_base_addr = %arg0
    hivm.hir.sync_block_set[<CUBE>, <PIPE_MTE2>, <PIPE_S>] flag = 3 ffts_base_addr = %arg0
    hivm.hir.sync_block_set[<CUBE>, <PIPE_MTE2>, <PIPE_S>] flag = 4 ffts_base_addr = %arg0
    hivm.hir.sync_block_set[<CUBE>, <PIPE_MTE2>, <PIPE_S>] flag = 5 ffts_base_addr = %arg0
    hivm.hir.sync_block_set[<CUBE>, <PIPE_MTE2>, <PIPE_S>] flag = 6 ffts_base_addr = %arg0
    hivm.hir.sync_block_set[<CUBE>, <PIPE_MTE2>, <PIPE_S>] flag = 7 ffts_base_addr = %arg0
    %39 = hivm.hir.pointer_cast(%c0_i64) : memref<2x4x16x16xf32, #hivm.address_space<cc>>
    hivm.hir.set_flag[<PIPE_MTE1>, <PIPE_MTE2>, <EVENT_ID0>]
    hivm.hir.set_flag[<PIPE_MTE1>, <PIPE_MTE2>, <EVENT_ID1>]
    hivm.hir.set_flag[<PIPE_MTE1>, <PIPE_MTE2>, <EVENT_ID2>]
    hivm.hir.set_flag[<PIPE_MTE1>, <PIPE_MTE2>, <EVENT_ID3>]
        %66 = arith.select %65, %1, %0 : memref<2x8x16x16xbf16, #hivm.address_space<cbuf>>
        %72 = arith.select %71, %3, %2 : memref<8x4x16x16xbf16, #hivm.address_space<cbuf>>
        hivm.hir.sync_block_wait[<CUBE>, <PIPE_MTE3>, <PIPE_S>] flag = 8
        hivm.hir.wait_flag[<PIPE_MTE1>, <PIPE_MTE2>, %84]
        hivm.hir.set_flag[<PIPE_MTE2>, <PIPE_MTE1>, <EVENT_ID0>]
        hivm.hir.sync_block_set[<CUBE>, <PIPE_MTE2>, <PIPE_S>] flag = %87 ffts_base_addr = %arg0
        hivm.hir.sync_block_wait[<CUBE>, <PIPE_MTE3>, <PIPE_S>] flag = 8
        hivm.hir.wait_flag[<PIPE_MTE1>, <PIPE_MTE2>, %81]
        hivm.hir.set_flag[<PIPE_MTE2>, <PIPE_MTE1>, <EVENT_ID1>]
        hivm.hir.sync_block_set[<CUBE>, <PIPE_MTE2>, <PIPE_S>] flag = %85 ffts_base_addr = %arg0
        func.call @mma_tile_bfloat16_t_to_float()
    hivm.hir.wait_flag[<PIPE_MTE1>, <PIPE_MTE2>, <EVENT_ID0>]
    hivm.hir.wait_flag[<PIPE_MTE1>, <PIPE_MTE2>, <EVENT_ID1>]
    hivm.hir.wait_flag[<PIPE_MTE1>, <PIPE_MTE2>, <EVENT_ID2>]
    hivm.hir.wait_flag[<PIPE_MTE1>, <PIPE_MTE2>, <EVENT_ID3>]
    hivm.hir.set_flag[<PIPE_M>, <PIPE_FIX>, <EVENT_ID0>]
    hivm.hir.wait_flag[<PIPE_M>, <PIPE_FIX>, <EVENT_ID0>]
    hivm.hir.pipe_barrier[<PIPE_ALL>]
    return
  }
  func.func @_linear_mix_aiv(%arg0: i64) {
    %c81056_i64 = arith.constant 81056 : i64
    %c72864_i64 = arith.constant 72864 : i64
    %c64672_i64 = arith.constant 64672 : i64
    %c60576_i64 = arith.constant 60576 : i64
    %c52384_i64 = arith.constant 52384 : i64
    %c52320_i64 = arith.constant 52320 : i64
    %c35936_i64 = arith.constant 35936 : i64
    %c19552_i64 = arith.constant 19552 : i64
    %c3168_i64 = arith.constant 3168 : i64
    %c3072_i64 = arith.constant 3072 : i64
    %c2816_i64 = arith.constant 2816 : i64
    %c2304_i64 = arith.constant 2304 : i64
    %c1792_i64 = arith.constant 1792 : i64
    %c1280_i64 = arith.constant 1280 : i64
    %c1216_i64 = arith.constant 1216 : i64
    %c1088_i64 = arith.constant 1088 : i64
    %c960_i64 = arith.constant 960 : i64
    %c896_i64 = arith.constant 896 : i64
    %c640_i64 = arith.constant 640 : i64
    %c384_i64 = arith.constant 384 : i64
    %c256_i64 = arith.constant 256 : i64
    %c0_i64 = arith.constant 0 : i64
    %20 = hivm.hir.pointer_cast(%c0_i64) : memref<64xi32, #hivm.address_space<ub>>
    %21 = hivm.hir.pointer_cast(%c0_i64) : memref<64xi32, #hivm.address_space<ub>>
    hivm.hir.pipe_barrier[<PIPE_V>]
    %22 = hivm.hir.pointer_cast(%c0_i64) : memref<0xi32, #hivm.address_space<ub>>
    %25 = hivm.hir.pointer_cast(%c256_i64) : memref<32xi32, #hivm.address_space<ub>>
    %26 = hivm.hir.pointer_cast(%c256_i64) : memref<32xi32, #hivm.address_space<ub>>
    hivm.hir.pipe_barrier[<PIPE_V>]
    %27 = hivm.hir.pointer_cast(%c0_i64) : memref<0xi32, #hivm.address_space<ub>>
    %28 = hivm.hir.pointer_cast(%c384_i64) : memref<64xi32, #hivm.address_space<ub>>
    %29 = hivm.hir.pointer_cast(%c0_i64) : memref<0xi32, #hivm.address_space<ub>>
    %30 = hivm.hir.pointer_cast(%c384_i64) : memref<64xi1, #hivm.address_space<ub>>
    hivm.hir.pipe_barrier[<PIPE_V>]
    %31 = hivm.hir.pointer_cast(%c384_i64) : memref<64xi1, #hivm.address_space<ub>>
    hivm.hir.pipe_barrier[<PIPE_V>]
    %32 = hivm.hir.pointer_cast(%c0_i64) : memref<0xi1, #hivm.address_space<ub>>
    %33 = hivm.hir.pointer_cast(%c640_i64) : memref<64xi32, #hivm.address_space<ub>>
    %34 = hivm.hir.pointer_cast(%c896_i64) : memref<16xi32, #hivm.address_space<ub>>
    hivm.hir.pipe_barrier[<PIPE_V>]
    %35 = hivm.hir.pointer_cast(%c960_i64) : memref<32xi32, #hivm.address_space<ub>>
    %36 = hivm.hir.pointer_cast(%c0_i64) : memref<0xi32, #hivm.address_space<ub>>
    %37 = hivm.hir.pointer_cast(%c960_i64) : memref<32xi1, #hivm.address_space<ub>>
    hivm.hir.pipe_barrier[<PIPE_V>]
    %38 = hivm.hir.pointer_cast(%c960_i64) : memref<32xi1, #hivm.address_space<ub>>
    hivm.hir.pipe_barrier[<PIPE_V>]
    %39 = hivm.hir.pointer_cast(%c0_i64) : memref<0xi1, #hivm.address_space<ub>>
    %40 = hivm.hir.pointer_cast(%c1088_i64) : memref<32xi32, #hivm.address_space<ub>>
    %41 = hivm.hir.pointer_cast(%c1216_i64) : memref<16xi32, #hivm.address_space<ub>>
    hivm.hir.pipe_barrier[<PIPE_V>]
    hivm.hir.set_flag[<PIPE_V>, <PIPE_S>, <EVENT_ID0>]
    %55 = hivm.hir.pointer_cast(%c1280_i64) : memref<128xi32, #hivm.address_space<ub>>
    hivm.hir.wait_flag[<PIPE_V>, <PIPE_S>, <EVENT_ID0>]
    hivm.hir.pipe_barrier[<PIPE_V>]
    hivm.hir.set_flag[<PIPE_MTE3>, <PIPE_V>, <EVENT_ID0>]
    hivm.hir.set_flag[<PIPE_MTE3>, <PIPE_V>, <EVENT_ID1>]
    hivm.hir.set_flag[<PIPE_V>, <PIPE_MTE2>, <EVENT_ID0>]
    hivm.hir.set_flag[<PIPE_V>, <PIPE_S>, <EVENT_ID0>]
        %68 = hivm.hir.pointer_cast(%c1792_i64) : memref<128xi32, #hivm.address_space<ub>>
        %69 = hivm.hir.pointer_cast(%c0_i64) : memref<0xi32, #hivm.address_space<ub>>
        %70 = hivm.hir.pointer_cast(%c2304_i64) : memref<128xi32, #hivm.address_space<ub>>
        hivm.hir.pipe_barrier[<PIPE_V>]
        %71 = hivm.hir.pointer_cast(%c0_i64) : memref<0xi32, #hivm.address_space<ub>>
        %72 = hivm.hir.pointer_cast(%c1792_i64) : memref<128xi1, #hivm.address_space<ub>>
        hivm.hir.pipe_barrier[<PIPE_V>]
        %73 = hivm.hir.pointer_cast(%c1792_i64) : memref<128xi1, #hivm.address_space<ub>>
        hivm.hir.pipe_barrier[<PIPE_V>]
        %74 = hivm.hir.pointer_cast(%c0_i64) : memref<0xi1, #hivm.address_space<ub>>
        %75 = hivm.hir.pointer_cast(%c2816_i64) : memref<128xf16, #hivm.address_space<ub>>
        %76 = hivm.hir.pointer_cast(%c3072_i64) : memref<48xf16, #hivm.address_space<ub>>
        hivm.hir.pipe_barrier[<PIPE_V>]
        %77 = hivm.hir.pointer_cast(%c3168_i64) : memref<64x128xf16, #hivm.address_space<ub>>
        hivm.hir.pipe_barrier[<PIPE_V>]
        %78 = hivm.hir.pointer_cast(%c3168_i64) : memref<64x128xi1, #hivm.address_space<ub>>
        hivm.hir.pipe_barrier[<PIPE_V>]
        %79 = hivm.hir.pointer_cast(%c3168_i64) : memref<64x128xi1, #hivm.address_space<ub>>
        hivm.hir.pipe_barrier[<PIPE_V>]
        %80 = hivm.hir.pointer_cast(%c0_i64) : memref<0xi1, #hivm.address_space<ub>>
        %81 = hivm.hir.pointer_cast(%c19552_i64) : memref<64x128xbf16, #hivm.address_space<ub>>
        hivm.hir.wait_flag[<PIPE_V>, <PIPE_MTE2>, <EVENT_ID0>]
          %93 = memref.load %33[%arg14] {DiscreteMemAccess, "DuplicateTensorExtractForCube::visitedLabel" = 1 : i32} : memref<64xi32, #hivm.address_space<ub>>
        hivm.hir.set_flag[<PIPE_MTE2>, <PIPE_V>, <EVENT_ID0>]
        %83 = hivm.hir.pointer_cast(%c35936_i64) : memref<64x128xbf16, #hivm.address_space<ub>>
        %84 = hivm.hir.pointer_cast(%c52320_i64) : memref<32xbf16, #hivm.address_space<ub>>
        hivm.hir.wait_flag[<PIPE_MTE3>, <PIPE_V>, <EVENT_ID0>]
        hivm.hir.wait_flag[<PIPE_MTE2>, <PIPE_V>, <EVENT_ID0>]
        hivm.hir.pipe_barrier[<PIPE_V>]
        hivm.hir.set_flag[<PIPE_V>, <PIPE_MTE3>, <EVENT_ID0>]
        hivm.hir.set_flag[<PIPE_V>, <PIPE_MTE2>, <EVENT_ID0>]
        hivm.hir.sync_block_wait[<VECTOR>, <PIPE_MTE2>, <PIPE_S>] flag = %64
        hivm.hir.wait_flag[<PIPE_V>, <PIPE_MTE3>, <EVENT_ID0>]
        hivm.hir.set_flag[<PIPE_MTE3>, <PIPE_V>, <EVENT_ID0>]
        hivm.hir.sync_block_set[<VECTOR>, <PIPE_MTE3>, <PIPE_S>] flag = 8 ffts_base_addr = %arg0
        %85 = hivm.hir.pointer_cast(%c52384_i64) : memref<128x32xf16, #hivm.address_space<ub>>
        %86 = hivm.hir.pointer_cast(%c60576_i64) : memref<2048xf16, #hivm.address_space<ub>>
        %87 = hivm.hir.pointer_cast(%c52384_i64) : memref<128x32xi1, #hivm.address_space<ub>>
        hivm.hir.pipe_barrier[<PIPE_V>]
        %88 = hivm.hir.pointer_cast(%c52384_i64) : memref<128x32xi1, #hivm.address_space<ub>>
        hivm.hir.pipe_barrier[<PIPE_V>]
        %89 = hivm.hir.pointer_cast(%c0_i64) : memref<0xi1, #hivm.address_space<ub>>
        %90 = hivm.hir.pointer_cast(%c64672_i64) : memref<128x32xbf16, #hivm.address_space<ub>>
        hivm.hir.wait_flag[<PIPE_V>, <PIPE_S>, <EVENT_ID0>]
            %96 = memref.load %40[%arg15] {DiscreteMemAccess, "DuplicateTensorExtractForCube::visitedLabel" = 1 : i32} : memref<32xi32, #hivm.address_space<ub>>
              hivm.hir.pipe_barrier[<PIPE_MTE3>]
            %104 = memref.load %reinterpret_cast[%c0] {markDCacheInvalidatePatternVisited = 0 : i32} : memref<1xbf16, strided<[1], offset: ?>, #hivm.address_space<gm>>
            memref.store %104, %90[%arg14, %arg15] : memref<128x32xbf16, #hivm.address_space<ub>>
        hivm.hir.set_flag[<PIPE_S>, <PIPE_V>, <EVENT_ID0>]
        %91 = hivm.hir.pointer_cast(%c72864_i64) : memref<128x32xbf16, #hivm.address_space<ub>>
        %92 = hivm.hir.pointer_cast(%c81056_i64) : memref<32xbf16, #hivm.address_space<ub>>
        hivm.hir.wait_flag[<PIPE_MTE3>, <PIPE_V>, <EVENT_ID1>]
        hivm.hir.wait_flag[<PIPE_S>, <PIPE_V>, <EVENT_ID0>]
        hivm.hir.pipe_barrier[<PIPE_V>]
        hivm.hir.set_flag[<PIPE_V>, <PIPE_MTE3>, <EVENT_ID0>]
        hivm.hir.set_flag[<PIPE_V>, <PIPE_S>, <EVENT_ID0>]
        hivm.hir.sync_block_wait[<VECTOR>, <PIPE_MTE2>, <PIPE_S>] flag = %62
        hivm.hir.wait_flag[<PIPE_V>, <PIPE_MTE3>, <EVENT_ID0>]
        hivm.hir.set_flag[<PIPE_MTE3>, <PIPE_V>, <EVENT_ID1>]
        hivm.hir.sync_block_set[<VECTOR>, <PIPE_MTE3>, <PIPE_S>] flag = 8 ffts_base_addr = %arg0
    hivm.hir.wait_flag[<PIPE_V>, <PIPE_S>, <EVENT_ID0>]
    hivm.hir.wait_flag[<PIPE_V>, <PIPE_MTE2>, <EVENT_ID0>]
    hivm.hir.wait_flag[<PIPE_MTE3>, <PIPE_V>, <EVENT_ID0>]
    hivm.hir.wait_flag[<PIPE_MTE3>, <PIPE_V>, <EVENT_ID1>]
    hivm.hir.sync_block_wait[<VECTOR>, <PIPE_MTE2>, <PIPE_S>] flag = 0
    hivm.hir.sync_block_wait[<VECTOR>, <PIPE_MTE2>, <PIPE_S>] flag = 1
    hivm.hir.sync_block_wait[<VECTOR>, <PIPE_MTE2>, <PIPE_S>] flag = 2
    hivm.hir.sync_block_wait[<VECTOR>, <PIPE_MTE2>, <PIPE_S>] flag = 3
    hivm.hir.sync_block_wait[<VECTOR>, <PIPE_MTE2>, <PIPE_S>] flag = 4
    hivm.hir.sync_block_wait[<VECTOR>, <PIPE_MTE2>, <PIPE_S>] flag = 5
    hivm.hir.sync_block_wait[<VECTOR>, <PIPE_MTE2>, <PIPE_S>] flag = 6
    hivm.hir.sync_block_wait[<VECTOR>, <PIPE_MTE2>, <PIPE_S>] flag = 7
    hivm.hir.pipe_barrier[<PIPE_ALL>]
    return
  }
}
