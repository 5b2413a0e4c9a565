#undef NDEBUG
#include<assert.h>
int main(){
    assert (answer(2) == 3);
    assert (answer(41) == 42);
    assert (answer(-1) == 0);
}
