#include "net/form.h"

static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";

dk_rc dk_form_encode(struct dk_buf *buf, const char *value, struct dk_err *err)
{
    static const char digits[] = "0123456789ABCDEF";
    for (; *value != '\0'; value++) {
        uint8_t c = (uint8_t)*value;
        char escaped[] = {'%', digits[c >> 4], digits[c & 15]};
        bool is_plain = strchr(plain, c) != NULL;
        DK_TRY(dk_buf_add(buf, is_plain ? value : escaped, is_plain ? 1 : sizeof escaped, err));
    }
    return DK_OK;
}

dk_rc dk_form_add(struct dk_buf *buf, const char *name, const char *value, struct dk_err *err)
{
    if (buf->n > 0 && buf->p[buf->n - 1] != '?') {
        DK_TRY(dk_buf_add(buf, "&", 1, err));
    }
    DK_TRY(dk_buf_add(buf, name, strlen(name), err));
    DK_TRY(dk_buf_add(buf, "=", 1, err));
    return dk_form_encode(buf, value, err);
}
