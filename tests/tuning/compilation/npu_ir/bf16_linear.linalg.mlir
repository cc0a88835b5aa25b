// The loop over K of gemm/bf16_linear as triton-adapter-opt 3.2.0 wrote it for Ascend910B2.
  func.func @_linear(%arg0: memref<?xi8>, %arg1: memref<?xi8>, %arg2: memref<?xbf16> {tt.divisibility = 16 : i32, tt.tensor_kind = 0 : i32}, %arg3: memref<?xbf16> {tt.divisibility = 16 : i32, tt.tensor_kind = 0 : i32}, %arg4: memref<?xf32> {tt.divisibility = 16 : i32, tt.tensor_kind = 1 : i32}, %arg5: i32, %arg6: i32 {tt.divisibility = 16 : i32}, %arg7: i32 {tt.divisibility = 16 : i32}, %arg8: i32, %arg9: i32, %arg10: i32, %arg11: i32, %arg12: i32, %arg13: i32) attributes {SyncBlockLockArgIdx = 0 : i64, WorkspaceArgIdx = 1 : i64, global_kernel = "local", parallel_mode = "simd"} {
    %43 = scf.for %arg14 = %41 to %42 step %c1_i32 iter_args(%arg15 = %1) -> (tensor<64x32xf32>)  : i32 {
      %68 = arith.muli %arg14, %c128_i32 : i32
      %69 = tensor.empty() : tensor<128xi32>
      %70 = linalg.generic {indexing_maps = [#map], iterator_types = ["parallel"]} outs(%69 : tensor<128xi32>) {
      ^bb0(%out: i32):
        %83 = linalg.index 0 : index
        %84 = arith.index_cast %83 : index to i32
        linalg.yield %84 : i32
      } -> tensor<128xi32>
      %71 = linalg.fill ins(%68 : i32) outs(%69 : tensor<128xi32>) -> tensor<128xi32>
      %72 = arith.addi %71, %70 : tensor<128xi32>
      %73 = linalg.fill ins(%arg7 : i32) outs(%69 : tensor<128xi32>) -> tensor<128xi32>
      %74 = arith.cmpi slt, %72, %73 : tensor<128xi32>
      %75 = arith.extsi %arg7 : i32 to i64
      %76 = tensor.empty() : tensor<64x128xi1>
      %broadcasted = linalg.broadcast ins(%74 : tensor<128xi1>) outs(%76 : tensor<64x128xi1>) dimensions = [0] 
      %alloc = memref.alloc() : memref<64x128xbf16>
      scf.for %arg16 = %c0 to %c64 step %c1 {
        %extracted = tensor.extract %33[%arg16] {DiscreteMemAccess} : tensor<64xi32>
        %83 = arith.extsi %extracted : i32 to i64
        %84 = arith.muli %83, %75 : i64
        %85 = arith.index_cast %84 : i64 to index
        %86 = arith.index_cast %68 : i32 to index
        %87 = arith.addi %85, %86 : index
        %reinterpret_cast_2 = memref.reinterpret_cast %arg2 to offset: [%87], sizes: [1, 128], strides: [128, 1] : memref<?xbf16> to memref<1x128xbf16, strided<[128, 1], offset: ?>>
        %subview_3 = memref.subview %alloc[%arg16, 0] [1, 128] [1, 1] : memref<64x128xbf16> to memref<1x128xbf16, strided<[128, 1], offset: ?>>
        memref.copy %reinterpret_cast_2, %subview_3 : memref<1x128xbf16, strided<[128, 1], offset: ?>> to memref<1x128xbf16, strided<[128, 1], offset: ?>>
      } {ExtractedLoadOrStore, hivm.parallel_loop}
      %77 = bufferization.to_tensor %alloc restrict writable : memref<64x128xbf16>
      %78 = arith.select %broadcasted, %77, %5 {DiscreteMemAccess} : tensor<64x128xi1>, tensor<64x128xbf16>
      %79 = tensor.empty() : tensor<128x32xi1>
      %broadcasted_1 = linalg.broadcast ins(%74 : tensor<128xi1>) outs(%79 : tensor<128x32xi1>) dimensions = [1] 
      %80 = scf.for %arg16 = %c0 to %c128 step %c1 iter_args(%arg17 = %2) -> (tensor<128x32xbf16>) {
        %83 = scf.for %arg18 = %c0 to %c32 step %c1 iter_args(%arg19 = %arg17) -> (tensor<128x32xbf16>) {
          %extracted = tensor.extract %36[%arg18] {DiscreteMemAccess} : tensor<32xi32>
          %84 = arith.extsi %extracted : i32 to i64
          %85 = arith.muli %84, %75 : i64
          %86 = arith.index_cast %arg16 : index to i32
          %87 = arith.addi %68, %86 : i32
          %88 = arith.extsi %87 : i32 to i64
          %89 = arith.addi %85, %88 : i64
          %90 = arith.index_cast %89 : i64 to index
          %reinterpret_cast_2 = memref.reinterpret_cast %arg3 to offset: [%90], sizes: [1], strides: [1] : memref<?xbf16> to memref<1xbf16, strided<[1], offset: ?>>
          %91 = memref.load %reinterpret_cast_2[%c0] : memref<1xbf16, strided<[1], offset: ?>>
          %inserted = tensor.insert %91 into %arg19[%arg16, %arg18] : tensor<128x32xbf16>
          scf.yield {DiscreteMemAccess} %inserted : tensor<128x32xbf16>
        } {ExtractedLoadOrStore}
        scf.yield %83 : tensor<128x32xbf16>
      } {ExtractedLoadOrStore}
      %81 = arith.select %broadcasted_1, %80, %3 {DiscreteMemAccess} : tensor<128x32xi1>, tensor<128x32xbf16>
      %82 = linalg.matmul {input_precison = "ieee"} ins(%78, %81 : tensor<64x128xbf16>, tensor<128x32xbf16>) outs(%arg15 : tensor<64x32xf32>) -> tensor<64x32xf32>
      scf.yield %82 : tensor<64x32xf32>
    }
    return
  }
