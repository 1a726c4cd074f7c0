/* Fills what malloc gives with ones: NaN in every format of floating-point number.
 *
 *     cc -shared -fPIC -O2 unwritten.c -o unwritten.so
 *     LD_PRELOAD=$PWD/unwritten.so python -m experiments.NAME
 *
 * Whoever reads memory that nobody has written then gets NaN instead of what happens to lie there.
 * glibc only: the names with two underscores are its own.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

void *__libc_malloc(size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static void *filled(void *memory, size_t size) {
  return memory ? memset(memory, 0xff, size) : NULL;
}

void *malloc(size_t size) { return filled(__libc_malloc(size), size); }

void *memalign(size_t alignment, size_t size) {
  return filled(__libc_memalign(alignment, size), size);
}

void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **memory, size_t alignment, size_t size) {
  void *found = memalign(alignment, size);
  if (!found) return ENOMEM;
  *memory = found;
  return 0;
}
