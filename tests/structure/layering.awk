# The rules behind layering.sh. POSIX awk: no interval expressions, no \b.

BEGIN {
  # part -> the parts it may include. A public header and its implementation count alike.
  may["core"] = "core"
  may["text"] = "core text"
  may["io"] = "core io"
  may["ops"] = "core ops kernels"
  may["kernels"] = "core ops kernels"  # the inside of ops: sees its enums
  may["autograd"] = "core ops autograd"
  may["nn"] = "core ops autograd nn"
  may["models"] = "core ops autograd nn text io models"
  may["generate"] = "core ops autograd nn text io models generate"
  may["evaluate"] = "core ops autograd nn text io models evaluate"
  may["peft"] = "core ops autograd nn text io models peft"
  may["train"] = "core ops autograd nn text io models generate evaluate peft train"
  may["interop"] = "core ops autograd nn text io models generate evaluate peft train interop"
  may["gpt.h"] = may["interop"]
  may["serve"] = may["interop"] " serve gpt.h"

  B = "(^|[^A-Za-z0-9_])"         # before a word
  UNQUALIFIED = "(^|[^A-Za-z0-9_:.>])"  # before a name that is not a member or of a namespace
  LIBM = "(exp|exp2|expm1|log|log2|log10|log1p|pow|sinh|cosh|tanh|asinh|acosh|atanh|sin|cos|tan|asin|acos|atan|atan2" \
         "|erf|erfc|cbrt|hypot|tgamma|lgamma)"
  INTRINSICS = "(immintrin|x86intrin|[a-z]mmintrin|avx[a-z0-9]*intrin|fmaintrin|f16cintrin|arm_neon|arm_sve|arm_acle)[.]h"
  MAX_MACROS = 4
}

FNR == 1 {
  area = FILENAME; sub("/.*", "", area)  # include, src, examples or bench
  part = FILENAME
  sub("^include/gpt/", "", part); sub("^src/", "", part); sub("/.*", "", part)
  library = area == "include" || area == "src"
  in_comment = 0
  if (library && !(part in may)) breach("a part that the layering does not know: " part)
}

{
  line = $0
  if (line ~ /^[ \t]*#[ \t]*include/) check_include(line)
  code = strip(line)
  check_code(code)
}

END {
  if (breaches) { print breaches " breaches"; exit 1 }
  print "no breach in " NR " lines"
}

function breach(what) {
  print FILENAME ":" FNR ": " what
  breaches++
}

# The line without comments and the contents of string and character literals.
function strip(s,    out, two, c, i, quote) {
  out = ""
  for (i = 1; i <= length(s); i++) {
    two = substr(s, i, 2)
    c = substr(s, i, 1)
    if (in_comment) {
      if (two == "*/") { in_comment = 0; i++ }
    } else if (two == "//") {
      break
    } else if (two == "/*") {
      in_comment = 1; i++
    } else if (c == "\"" || (c == "'" && substr(s, i - 1, 1) !~ /[0-9a-fA-F]/)) {  # 1'000 is a number
      quote = c
      for (i++; i <= length(s) && substr(s, i, 1) != quote; i++) if (substr(s, i, 1) == "\\") i++
      out = out quote quote
    } else {
      out = out c
    }
  }
  return out
}

function allowed(from, to) { return index(" " may[from] " ", " " to " ") > 0 }

function check_include(s,    quoted, name, target, internal) {
  quoted = s ~ /include[ \t]*"/
  name = s
  sub(/^[^"<]*["<]/, "", name); sub(/[">].*/, "", name)

  if (name ~ INTRINSICS && part != "kernels") breach("<" name ">: intrinsics belong in src/kernels")
  if (name == "omp.h" && FILENAME != "src/core/parallel_openmp.cpp") breach("<omp.h>: use gpt/core/parallel.h")
  if (!library) {
    if (name ~ /^kernels\//) breach("\"" name "\": only src/ops may see src/kernels")
    return
  }

  if (area == "include" && part != "interop" && !quoted && name ~ /[.\/]/ && name !~ /^gpt\//)
    breach("<" name ">: a public header may include only gpt/ and the standard C++ library")
  if (name ~ /(^|\/)[.][.]\//) { breach("\"" name "\": write the path from include/ or src/"); return }

  internal = name
  if (sub(/^gpt\//, "", internal) == 0) {
    if (!quoted) return                          # the standard library or a package
    if (area == "include") { breach("\"" name "\": a public header includes \"gpt/...\""); return }
    if (name !~ /\//) return                     # beside the file itself
  }
  target = internal; sub(/\/.*/, "", target)
  if (!(target in may)) breach("\"" name "\": a part that the layering does not know")
  else if (target == "kernels" && part != "kernels" && part != "ops") breach("\"" name "\": only src/ops may see src/kernels")
  else if (!allowed(part, target)) breach("\"" name "\": " part " may include " may[part] ", not " target)
}

function check_code(s,    name) {
  if (part != "kernels" && (s ~ B "_mm[0-9]*_[a-z]" || s ~ B "__m(128|256|512)" || s ~ B "__builtin_ia32_"))
    breach("intrinsics belong in src/kernels")
  if (FILENAME != "src/core/parallel_openmp.cpp" && (s ~ /#[ \t]*pragma[ \t]+omp/ || s ~ B "omp_[a-z_]+[ \t]*[(]"))
    breach("OpenMP belongs in src/core/parallel_openmp.cpp: use gpt/core/parallel.h")
  if (!library) return

  if (s ~ B "std::(cout|cerr|clog|wcout|wcerr)" || s ~ B "(printf|fprintf|vprintf|vfprintf|puts|fputs|putchar|perror)[ \t]*[(]")
    breach("the library never prints")
  if (s ~ B "std::(abort|exit|_Exit|quick_exit|terminate)" || s ~ UNQUALIFIED "(abort|exit|_exit|_Exit|quick_exit|terminate)[ \t]*[(]")
    breach("the library never ends its host: throw an Error")
  if (s ~ B "v?sn?printf[ \t]*[(]" || s ~ B "(strto(d|f|ld)|ato[fil]|s?scanf|setlocale)[ \t]*[(]" || s ~ B "std::sto(f|d|ld)")
    breach("depends on the host's locale: use to_chars, from_chars or concat")
  if (s ~ B "std::(jthread|thread|async)" && FILENAME != "src/core/parallel_threads.cpp" && part != "serve")
    breach("threads belong to the caller: use gpt/core/parallel.h")
  if (s ~ B "std::" LIBM "[fl]?[ \t]*[(;]" || s ~ "(^|[^A-Za-z0-9_:])::" LIBM "[fl]?[ \t]*[(]" ||
      s ~ UNQUALIFIED LIBM "[fl][ \t]*[(]" || s ~ B "__builtin_" LIBM "[fl]?[ \t]*[(]")
    breach("libm's result differs between systems: use gpt/core/math.h (or the kernels' polynomials)")

  if (s ~ /unordered_(multi)?(map|set)[ \t]*<[ \t]*(const[ \t]+)?std::(u8|u16|u32|w)?string/)
    breach("files can hold strings that were made to have one hash: use a map or set in order, or text/token_table.h")

  if (area == "include" && s ~ /^[ \t]*#[ \t]*define[ \t]/) {
    name = s; sub(/^[ \t]*#[ \t]*define[ \t]+/, "", name); sub(/[^A-Za-z0-9_].*/, "", name)
    if (name !~ /^GPT_/) breach("macro " name ": expected the prefix GPT_")
    if (!(name in macros)) { macros[name] = 1; if (++macro_count > MAX_MACROS) breach("macro " name ": more than " MAX_MACROS " in the interface") }
  }
}
