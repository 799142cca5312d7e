# SPDX-License-Identifier: MIT
"""Hot loops found in disassemblies as objdump and nvdisasm write them."""

from __future__ import annotations

from agent.tools.loops import hot_loops

X86 = """
code.so:     file format elf64-x86-64

Disassembly of section .text:

0000000000001100 <pack(float const*, long)>:
    1100:\tmov    %rdi,%rax
    1103:\tvmulps %ymm0,%ymm1,%ymm2
    1107:\tadd    $0x20,%rax
    110b:\tjne    1103 <pack(float const*, long)+0x3>
    110d:\tret

0000000000001200 <attention_forward>:
    1200:\tpush   %rbp
    1201:\txor    %eax,%eax
    1203:\tmov    %rax,%rcx
    1206:\tvfmadd231ps (%rsi),%zmm0,%zmm1
    120c:\tvfmadd231ps 0x40(%rsi),%zmm0,%zmm2        # 2000 <table>
    1212:\tvfmadd231ps 0x80(%rsi),%zmm0,%zmm3
    1218:\tcmp    %rdx,%rsi
    121b:\tjb     1206 <attention_forward+0x6>
    121d:\tvmaxps %zmm1,%zmm2,%zmm3
    1223:\tdec    %rcx
    1226:\tjne    1203 <attention_forward+0x3>
    1228:\tjmp    1100 <pack(float const*, long)>
"""
SASS = """
\t.section\t.text.attention_forward,"ax",@progbits
attention_forward:
.L_x_4:
        /*0000*/                   MOV R1, c[0x0][0x28] ;
        /*0010*/                   HGMMA.64x128x16.F32.BF16 R24, R156, gdesc[UR8], RZ, !UPT ;
.L_x_1:
        /*0020*/              @!P0 BRA `(.L_x_2) ;
        /*0030*/                   HGMMA.64x128x16.F32.BF16 R24, R156, gdesc[UR8], R24 ;
        /*0040*/              @!UP1 FFMA R1, R2, R3, R4 ;
        /*0050*/                   MUFU.EX2 R2, R2 ;
        /*0060*/               @P1 BRA `(.L_x_1) ;
.L_x_2:
        /*0070*/                   FADD R1, R2, R3 ;
        /*0080*/                   EXIT ;
.L_x_3:
        /*0090*/                   BRA `(.L_x_3) ;
"""
ARM = """
0000000000000700 <kernel>:
     700:\tldr\tq1, [x0], #16
     704:\tfmla\tv0.4s, v1.4s, v2.s[0]
     708:\tsubs\tx3, x3, #0x1
     70c:\tb.ne\t700 <kernel>  // b.any
     710:\tret
"""


def test_the_innermost_loop_with_the_most_arithmetic_comes_first():
    first, second = hot_loops(X86)
    assert (first.function, len(first.lines), first.weight) == ("attention_forward", 5, 3)
    assert first.lines[1] == "vfmadd231ps 0x40(%rsi),%zmm0,%zmm2"
    assert first.mix() == "vfmadd231ps 3  cmp 1  jb 1"
    assert (second.function, second.weight) == ("pack(float const*, long)", 1)


def test_sass_with_labels_and_predicates():
    (loop,) = hot_loops(SASS)  # the trap at the end has no arithmetic
    assert loop.function == "attention_forward"
    assert [line.split()[0] for line in loop.lines] == [
        "BRA", "HGMMA.64x128x16.F32.BF16", "FFMA", "MUFU.EX2", "BRA",
    ]  # fmt: skip
    assert loop.weight == 64 + 2


def test_aarch64():
    (loop,) = hot_loops(ARM)
    assert (loop.function, loop.weight, len(loop.lines)) == ("kernel", 1, 4)


def test_nothing_to_find():
    assert hot_loops("") == []
    quiet = X86.replace("vfmadd231ps", "mov").replace("vmulps", "mov").replace("vmaxps", "mov")
    assert hot_loops(quiet) == []
